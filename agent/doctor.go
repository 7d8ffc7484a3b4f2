package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ecolink/agent/doctor"
	"ecolink/agent/volume"
)

// endGrace is what a workload without a record has between SIGTERM and SIGKILL
// when the doctor ends it.
const endGrace = 10 * time.Second

// Examine lists what of the box's own parts is not as it should be, beside what
// doctor.Look can see.
func (b *Box) Examine(ctx context.Context, known doctor.Known) ([]doctor.Finding, error) {
	var out []doctor.Finding
	ids, err := b.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !slices.Contains(known.Workloads, id) {
			out = append(out, doctor.Finding{Kind: doctor.Workload, Name: id, Where: []string{"containerd, network, devices, terminals or scratch"},
				Why: "no instance that is not over has it", Repair: "end what runs of it and remove the rest, its files outside of drives included"})
		}
	}
	found, err := b.volumes.Inspect(ctx, volumesKnown(known))
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		out = append(out, doctor.OfVolume(f))
	}
	return out, nil
}

func volumesKnown(known doctor.Known) volume.Known {
	return volume.Known{Volumes: known.Volumes, Unsettled: known.Unsettled, Users: append([]string{filesUser}, known.Workloads...)}
}

// Mend puts a finding of Examine or doctor.Look right, if it is still there.
func (b *Box) Mend(ctx context.Context, known doctor.Known, f doctor.Finding) error {
	switch f.Kind {
	case doctor.Workload:
		if slices.Contains(known.Workloads, f.Name) {
			return nil // it has been launched meanwhile
		}
		return b.Remove(ctx, f.Name, endGrace)
	case doctor.Volume:
		found, err := b.volumes.Inspect(ctx, volumesKnown(known))
		if err != nil {
			return err
		}
		for _, v := range found {
			if g := doctor.OfVolume(v); g.Name == f.Name && v.Mendable {
				return b.volumes.Repair(ctx, v)
			}
		}
		return nil
	default:
		return fmt.Errorf("%s %s can't be mended while EcoLink runs: restart it, and it removes what is nobody's", f.Kind, f.Name)
	}
}
