package simulated

import (
	"reflect"
	"strings"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// answerNotSupported gives every call that a mock leaves out the answer that a
// driver gives for what its hardware cannot do. The mock itself would panic,
// and a question about a simulated GPU must not take EcoLink down.
//
// mock points to one of go-nvml's generated mocks, whose calls are fields named
// …Func. Calls that return no code (they hand out a versioned handler that would
// go on to call NVIDIA's library) stay out and still panic.
func answerNotSupported(mock any) {
	fields := reflect.ValueOf(mock).Elem()
	code := reflect.TypeFor[gonvml.Return]()
	for i := range fields.NumField() {
		field := fields.Field(i)
		if !strings.HasSuffix(fields.Type().Field(i).Name, "Func") || field.Kind() != reflect.Func || !field.IsNil() {
			continue
		}
		outs := field.Type().NumOut()
		if outs == 0 || field.Type().Out(outs-1) != code {
			continue
		}
		answer := make([]reflect.Value, outs)
		for o := range outs {
			answer[o] = reflect.Zero(field.Type().Out(o))
		}
		answer[outs-1] = reflect.ValueOf(gonvml.ERROR_NOT_SUPPORTED)
		field.Set(reflect.MakeFunc(field.Type(), func([]reflect.Value) []reflect.Value { return answer }))
	}
}
