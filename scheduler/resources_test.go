package scheduler

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/agent"
)

func TestEachGPUBringsItsPartOfTheMachine(t *testing.T) {
	const gib = int64(1) << 30
	for what, row := range map[string]struct {
		policy Policy
		have   agent.Capacity
		gpus   int
		want   agent.Resources
	}{
		"eight GPUs in a large machine": {
			Policy{}, agent.Capacity{CPUs: 192, MemoryBytes: 2048 * gib, PIDs: 4 << 20, DiskBytes: 28_000 * gib}, 8,
			agent.Resources{MilliCPUs: 24_000, MemoryBytes: 230 * gib, PIDs: 32768, ShmBytes: 115 * gib, ScratchBytes: 700 * gib},
		},
		"sixteen simulated GPUs on two cores": {
			Policy{}, agent.Capacity{CPUs: 2, MemoryBytes: 8 * gib, PIDs: 32768, DiskBytes: 20 * gib}, 16,
			agent.Resources{MilliCPUs: 100, MemoryBytes: gib / 2, PIDs: 1024, ShmBytes: gib / 4, ScratchBytes: gib},
		},
		"no GPUs": {
			Policy{}, agent.Capacity{CPUs: 4, MemoryBytes: 20 * gib, PIDs: 32768, DiskBytes: 100 * gib}, 0,
			agent.Resources{MilliCPUs: 4000, MemoryBytes: 18 * gib, PIDs: 16384, ShmBytes: 9 * gib, ScratchBytes: 8 * gib},
		},
		"the operator's word": {
			Policy{MilliCPUs: 500, FixedCPUs: true, MemoryBytes: 3 * gib, PIDs: -1, ShmBytes: gib, ScratchBytes: -1},
			agent.Capacity{CPUs: 4, MemoryBytes: 20 * gib, PIDs: 32768, DiskBytes: 100 * gib}, 2,
			agent.Resources{MilliCPUs: 500, FixedCPUs: true, MemoryBytes: 3 * gib, ShmBytes: gib},
		},
	} {
		if got := row.policy.PerGPU(row.have, row.gpus, 2); got != row.want {
			t.Errorf("%s: %+v, want %+v", what, got, row.want)
		}
	}
}

func TestAllGPUsTogetherNeverGetMoreMemoryThanThereIs(t *testing.T) {
	for gpus := 1; gpus <= 16; gpus++ {
		for mem := int64(16) << 30; mem < 3<<40; mem = mem*5/3 + 12345 {
			r := times(Policy{}.PerGPU(agent.Capacity{CPUs: 8, MemoryBytes: mem, PIDs: 1 << 22, DiskBytes: 1 << 42}, gpus, 2), gpus)
			if r.MemoryBytes > mem-mem/hostMemoryPart || r.MemoryBytes < mem/2 {
				t.Errorf("%d GPUs and %d bytes: %+v", gpus, mem, r)
			}
		}
	}
}

func TestInstanceKeepsTheResourcesThatItWasLaunchedWithAndTheQuoteTellsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 2)
		defer b.close()
		b.stop()
		b.options = []Option{WithResources(agent.Resources{MilliCPUs: 2000, MemoryBytes: 16 << 30, ScratchBytes: 50 << 30})}
		b.start()
		r := request("a", 1)
		r.GPUCount = 2
		q, err := b.Quote(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if words := Spell(q.Resources); words != "4 CPUs, 32 GiB of memory, 100 GiB of scratch disk" {
			t.Errorf("the quote says %q", words)
		}
		i, err := b.Launch(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		b.options = nil // the operator changes the policy
		b.restart()
		if got := b.want(i.ID, Running).Resources; got != q.Resources {
			t.Errorf("%+v, want %+v", got, q.Resources)
		}
		if got := b.Scheduler.workload(b.read(i.ID)).Resources; got != q.Resources {
			t.Errorf("the machine is told %+v", got)
		}
	})
}

func TestWhatHappensInsideAnInstanceIsToldInWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("a", 1)
		b.machine.set(func() {
			o := b.machine.found[i.Workload()]
			o.OOMKills = 3
			o.Command = &agent.CommandEnd{At: time.Now(), Code: 3}
		})
		b.machine.changes <- i.Workload()
		b.settle()
		i = b.want(i.ID, Running)
		words := strings.Join(i.Notices(), "\n")
		if !strings.Contains(words, "ended with exit code 3") || !strings.Contains(words, "want of memory, 3 times") {
			t.Errorf("it says %q", words)
		}
		watch := b.store.Watch(instances.Name())
		defer watch.Close()
		// What root inside may write: a command ends once.
		b.machine.set(func() { b.machine.found[i.Workload()].Command = &agent.CommandEnd{At: time.Now(), Code: 4} })
		b.machine.changes <- i.Workload()
		b.settle()
		if again := watch.Take(); len(again) > 0 {
			t.Errorf("the same news was written %d times again", len(again))
		}
		b.machine.reboot()
		b.machine.changes <- ""
		b.settle()
		if i = b.want(i.ID, Running); len(i.Notices()) > 0 {
			t.Errorf("a new start still has %q", i.Notices())
		}
		b.machine.set(func() { b.machine.found[i.Workload()].OOMKills = 1 })
		b.machine.exit(i.Workload())
		b.settle()
		i = b.read(i.ID)
		if words := strings.Join(i.Notices(), "\n"); !strings.Contains(words, "The container was killed: out of memory") {
			t.Errorf("it says %q", words)
		}
	})
}

func TestEveryWayToEndHasItsSentence(t *testing.T) {
	limits := agent.Resources{MemoryBytes: 32 << 30}
	for want, i := range map[string]Instance{
		"The start command ended with exit code 3. See the output. The instance goes on without it.":                               {CommandEnd: &CommandEnd{Code: 3}},
		"The start command ended, with success. The instance goes on without it.":                                                  {CommandEnd: &CommandEnd{}},
		"The start command could not start: /foo: no such file or directory. The instance goes on without it.":                     {CommandEnd: &CommandEnd{Error: "/foo: no such file or directory"}},
		"The start command was ended by SIGSEGV (a crash: it used memory that it does not have). The instance goes on without it.": {CommandEnd: &CommandEnd{Signal: 11}},
		"The start command was killed: out of memory (limit 32 GiB). The instance goes on without it.":                             {CommandEnd: &CommandEnd{Signal: 9}, OOMKills: 1, Resources: limits},
		"The container was killed: out of memory (limit 32 GiB).":                                                                  {ContainerEnd: &ContainerEnd{Code: 137}, OOMKills: 2, Resources: limits},
		"The container's first process was ended by SIGKILL (somebody killed it).":                                                 {ContainerEnd: &ContainerEnd{Code: 137}},
		"The container's first process ended with exit code 0.":                                                                    {ContainerEnd: &ContainerEnd{}},
	} {
		if got := i.Notices(); len(got) == 0 || got[0] != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
