package console

import (
	"net/http"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
	"ecolink/nvml"
	"ecolink/scheduler"
)

// gpuView is a GPU and who has it, as far as that is the viewer's business.
type gpuView struct {
	nvml.GPU
	State    string               // free, yours or used
	Instance scheduler.InstanceID // if yours
	Rate     ledger.MicroUSD      // 0: no price yet
}

type gpusView struct {
	frame
	GPUs     []gpuView
	Problems []nvml.Problem
	Driver   string
	CUDA     string
}

func (c *console) gpus(w http.ResponseWriter, r *http.Request, v *visit) error {
	list, err := c.Scheduler.GPUs()
	if err != nil {
		return err
	}
	g := gpusView{
		frame: c.frame(r, v, "GPUs"), Problems: c.Inventory.Problems,
		Driver: c.Inventory.DriverVersion, CUDA: c.Inventory.CUDAVersion,
	}
	var rates map[string]ledger.MicroUSD
	if err := c.Store.View(func(tx *store.Tx) (err error) { rates, err = price.GPURates(tx, time.Now()); return err }); err != nil {
		return err
	}
	for _, each := range list {
		hw, ok := c.Inventory.GPU(each.UUID)
		if !ok {
			hw = nvml.GPU{UUID: each.UUID, Index: each.Index, Type: each.Type, NUMANode: -1}
		}
		shown := gpuView{GPU: hw, State: "free", Rate: rates[each.Type]}
		switch {
		case each.Instance != 0 && each.Account == v.account.ID:
			shown.State, shown.Instance = "yours", each.Instance
		case each.Instance != 0:
			shown.State = "used"
		}
		g.GPUs = append(g.GPUs, shown)
	}
	return show(w, r, http.StatusOK, gpusPage(g))
}
