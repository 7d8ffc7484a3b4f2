package trace

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ecolink/scheduler/placement/policy"

	"pgregory.net/rapid"
)

const (
	nodesCSV = "sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,2,P100\nn1,8000,32768,0,\n"
	tasksCSV = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos\n" +
		"p0,12000,16384,1,1000,,LS\np1,6000,12288,1,460,V100M16|T4|,LS\np2,1000,1,0,0,,BE\np3,88000,1,8,1000,,LS\n"
)

func TestListsAreReadByTheNamesOfTheirColumns(t *testing.T) {
	nodes, err := ReadNodes(strings.NewReader(nodesCSV))
	if want := "[{64000 262144 P100 [1000 1000]} {8000 32768  []}]"; err != nil || fmt.Sprint(nodes) != want {
		t.Errorf("nodes: %v, %v", nodes, err)
	}
	tasks, err := ReadTasks(strings.NewReader(tasksCSV))
	if want := "[{12000 16384 1 1000 []} {6000 12288 1 460 [V100M16 T4]} {1000 1 0 0 []} {88000 1 8 1000 []}]"; err != nil || fmt.Sprint(tasks) != want {
		t.Errorf("tasks: %v, %v", tasks, err)
	}
	other, err := ReadNodes(strings.NewReader("gpu,x,model,memory_mib,cpu_milli\n1,?,T4,3,2\n"))
	if err != nil || fmt.Sprint(other) != "[{2 3 T4 [1000]}]" {
		t.Errorf("in another order: %v, %v", other, err)
	}
}

func TestWhatIsWrongInAListIsNamed(t *testing.T) {
	const header = "cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
	for _, test := range []struct{ csv, want string }{
		{"", "read the header line: EOF"},
		{"cpu_milli,memory_mib\n", "there is no column num_gpu in the header line: give cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec"},
		{header + "1,2,1,1000,\n1,2,one,1000,\n", `line 3: num_gpu is "one": give a number between 0 and 64`},
		{header + "-1,2,1,1000,\n", `line 2: cpu_milli is "-1": give a number between 0 and 1099511627776`},
		{header + "1,2,1,1001,\n", `line 2: gpu_milli is "1001": give a number between 0 and 1000`},
		{header + "1,2,2,500,\n", "line 2: a task asks for 500 thousandths of each of 2 GPUs: only one GPU can be shared"},
		{header + "1,2,1\n", "record on line 2: wrong number of fields"},
	} {
		if _, err := ReadTasks(strings.NewReader(test.csv)); err == nil || err.Error() != test.want {
			t.Errorf("%q: %v, want %s", test.csv, err, test.want)
		}
	}
	long := header + strings.Repeat("1,2,0,0,\n", MaxRows+1)
	if _, err := ReadTasks(strings.NewReader(long)); err == nil || !strings.Contains(err.Error(), "give a smaller trace") {
		t.Errorf("one row too many: %v", err)
	}
}

// What is read can be placed: New and Check have nothing against it.
func FuzzReadNodes(f *testing.F) {
	f.Add(nodesCSV)
	f.Add("gpu,model,cpu_milli,memory_mib\n65,x,1,1\n")
	f.Fuzz(func(t *testing.T, csv string) {
		nodes, err := ReadNodes(strings.NewReader(csv))
		if err != nil || len(nodes) > policy.MaxModels {
			return
		}
		if _, err := policy.New(nodes); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzReadTasks(f *testing.F) {
	f.Add(tasksCSV)
	f.Add("cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n1,1,0,1,\n")
	f.Fuzz(func(t *testing.T, csv string) {
		tasks, err := ReadTasks(strings.NewReader(csv))
		if err != nil {
			return
		}
		for _, task := range tasks {
			if err := task.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestDrawIsTheTraceInAnotherOrderAndThenMoreOfItUpToTheLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nodes []policy.Node
		for i := range rapid.IntRange(1, 20).Draw(t, "nodes") {
			nodes = append(nodes, policy.Node{CPU: int64(i), GPUs: []int{1000, 1000}})
		}
		var tasks []policy.Task
		for i := range rapid.IntRange(0, 10).Draw(t, "tasks") {
			task := policy.Task{CPU: int64(i), GPUs: rapid.IntRange(0, 1).Draw(t, "gpus")}
			task.Share = task.GPUs * rapid.IntRange(1, 1000).Draw(t, "share")
			tasks = append(tasks, task)
		}
		seed := rapid.Int64().Draw(t, "seed")
		const load = 1.3
		ordered, drawn := Draw(nodes, tasks, load, seed)
		again, drawnAgain := Draw(nodes, tasks, load, seed)
		if !reflect.DeepEqual(ordered, again) || !reflect.DeepEqual(drawn, drawnAgain) {
			t.Fatal("the same seed draws something else")
		}
		sameSet(t, fmt.Sprint, nodes, ordered)
		sameSet(t, fmt.Sprint, tasks, drawn[:len(tasks)])
		inTrace, asked := 0, 0
		for i, task := range drawn {
			if asked += task.Milli(); i < len(tasks) {
				inTrace = asked
			}
			if !slices.ContainsFunc(tasks, func(known policy.Task) bool { return reflect.DeepEqual(known, task) }) {
				t.Fatalf("%+v isn't of the trace", task)
			}
		}
		limit := int(load * float64(len(nodes)*2000))
		if inTrace > 0 && asked > max(limit, inTrace) || inTrace > 0 && asked < limit-1000 {
			t.Fatalf("%d are asked for, with %d by the trace and a limit of %d", asked, inTrace, limit)
		}
	})
}

func sameSet[T any](t *rapid.T, name func(...any) string, a, b []T) {
	var as, bs []string
	for _, x := range a {
		as = append(as, name(x))
	}
	for _, x := range b {
		bs = append(bs, name(x))
	}
	slices.Sort(as)
	slices.Sort(bs)
	if !slices.Equal(as, bs) {
		t.Fatalf("%v became %v", as, bs)
	}
}

// The first draws of a seed never change: published figures rest on them.
func TestDrawOfASeedStaysTheSame(t *testing.T) {
	var nodes []policy.Node
	var tasks []policy.Task
	for i := range 8 {
		nodes = append(nodes, policy.Node{CPU: int64(i), GPUs: []int{1000}})
		tasks = append(tasks, policy.Task{CPU: int64(i), GPUs: 1, Share: 1000})
	}
	ordered, drawn := Draw(nodes, tasks, 1.3, 42)
	var order []int64
	for _, n := range ordered {
		order = append(order, n.CPU)
	}
	for _, task := range drawn {
		order = append(order, task.CPU)
	}
	if got := fmt.Sprint(order); got != wantOrder {
		t.Fatalf("it is %s", got)
	}
}

const wantOrder = "[4 5 1 0 3 2 6 7 3 6 2 5 7 1 4 0 0 3]"
