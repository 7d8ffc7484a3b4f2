package trace

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"ecolink/scheduler/placement/policy"
)

// MaxRows is how many nodes or tasks a file may have.
const MaxRows = 1 << 18

// ReadNodes reads a list of nodes with the columns cpu_milli, memory_mib, gpu and
// model.
func ReadNodes(r io.Reader) ([]policy.Node, error) {
	var nodes []policy.Node
	err := rows(r, []string{"cpu_milli", "memory_mib", "gpu", "model"}, func(row row) error {
		cpu, memory := row.number(0, policy.MaxCPU), row.number(1, policy.MaxMemory)
		gpus := row.number(2, policy.MaxGPUs)
		if row.bad != nil {
			return row.bad
		}
		node := policy.Node{CPU: cpu, Memory: memory, Model: row.fields[3]}
		for range gpus {
			node.GPUs = append(node.GPUs, policy.WholeGPU)
		}
		nodes = append(nodes, node)
		return nil
	})
	return nodes, err
}

// ReadTasks reads a list of tasks with the columns cpu_milli, memory_mib, num_gpu,
// gpu_milli and gpu_spec.
func ReadTasks(r io.Reader) ([]policy.Task, error) {
	var tasks []policy.Task
	err := rows(r, []string{"cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec"}, func(row row) error {
		t := policy.Task{
			CPU: row.number(0, policy.MaxCPU), Memory: row.number(1, policy.MaxMemory),
			GPUs: int(row.number(2, policy.MaxGPUs)), Share: int(row.number(3, policy.WholeGPU)),
		}
		if row.bad != nil {
			return row.bad
		}
		for model := range strings.SplitSeq(row.fields[4], "|") {
			if model != "" {
				t.Models = append(t.Models, model)
			}
		}
		if err := t.Check(); err != nil {
			return err
		}
		tasks = append(tasks, t)
		return nil
	})
	return tasks, err
}

// row is the wanted fields of a line.
type row struct {
	columns []string
	fields  []string
	bad     error // the first number that is none
}

func (r *row) number(field int, most int64) int64 {
	n, err := strconv.ParseInt(r.fields[field], 10, 64)
	if (err != nil || n < 0 || n > most) && r.bad == nil {
		r.bad = fmt.Errorf("%s is %q: give a number between 0 and %d", r.columns[field], r.fields[field], most)
	}
	return n
}

// rows reads a CSV file with a header line and gives the wanted columns of each
// line to take, wherever they stand.
func rows(r io.Reader, columns []string, take func(row) error) error {
	in := csv.NewReader(r)
	in.ReuseRecord = true
	header, err := in.Read()
	if err != nil {
		return fmt.Errorf("read the header line: %w", err)
	}
	at := make([]int, len(columns))
	for k, column := range columns {
		if at[k] = slices.Index(header, column); at[k] < 0 {
			return fmt.Errorf("there is no column %s in the header line: give %s", column, strings.Join(columns, ", "))
		}
	}
	for count := 0; ; count++ {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if count == MaxRows {
			return fmt.Errorf("there are more than %d rows: give a smaller trace", MaxRows)
		}
		got := row{columns: columns}
		for _, k := range at {
			got.fields = append(got.fields, record[k])
		}
		if err := take(got); err != nil {
			line, _ := in.FieldPos(0)
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}
