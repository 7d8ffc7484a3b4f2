package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// addSockets puts the WebSockets of package socket behind the API key, and
// documents them: an OpenAPI document can say that they are there, but not more
// of what they speak than a description.
func (a *api) addSockets() {
	a.addSocket("terminal", a.Terminal, huma.Operation{
		OperationID: "open-gpu-instance-terminal", Summary: "Open a terminal",
		Description: `A WebSocket, subprotocol "ecolink.terminal.v1", to a root shell of a running instance. The shell outlives the connection; several may open the same session. ` +
			`The server first sends the text {"start":N}, the absolute offset of the first byte of output, with "prologue" if that text is to be shown first and counts as no output; then output as binary messages, and the text {"ended":true} at the end. ` +
			`The client sends input as binary messages and {"resize":{"cols":80,"rows":24}} as text. The session has the window of whoever came, typed or resized last; the text {"window":{"cols":80,"rows":24}} tells others. ` +
			`Close code 4001 means that the client read too slowly: connect again with from. A client that is cut off and comes back within half a minute misses nothing.`,
		Parameters: []*huma.Param{
			query("session", "Name of the session; main when left out.", &huma.Schema{Type: huma.TypeString}),
			query("from", "Offset of the first byte of output wanted; left out or -1: what an empty screen needs.", &huma.Schema{Type: huma.TypeInteger}),
			query("flow", "1: the client sends the text {\"ack\":N} when it has shown the output up to an offset, at least every 256 KiB. The server then sends 1 MiB more than that at most, so that what is on its way is never too much to come back for, and an empty object every few seconds as a sign of life.", &huma.Schema{Type: huma.TypeInteger}),
			query("cols", "Width of the window.", &huma.Schema{Type: huma.TypeInteger}),
			query("rows", "Height of the window.", &huma.Schema{Type: huma.TypeInteger}),
		},
	})
	words := &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}}
	a.addSocket("exec", a.Exec, huma.Operation{
		OperationID: "exec-in-gpu-instance", Summary: "Run a command",
		Description: `A WebSocket, subprotocol "ecolink.exec.v1", to a command that runs as root, without a terminal. ` +
			`The client sends binary messages, a byte 0 and then input; one without input is the end of it. ` +
			`The server sends binary messages, a byte 1 (stdout) or 2 (stderr) and then output, and at the end the text {"exit":CODE} or {"error":{…}}.`,
		Parameters: []*huma.Param{query("arg", "The command and its arguments, one each; repeat it.", words)},
	})
}

func (a *api) addSocket(name string, h http.Handler, op huma.Operation) {
	op.Method, op.Path, op.Tags = http.MethodGet, "/v1/gpu-instances/{id}/"+name, []string{tagInstances}
	minimum := 1.0
	id := &huma.Param{Name: "id", In: "path", Required: true, Description: "The instance's number.",
		Schema: &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &minimum}}
	op.Parameters = append([]*huma.Param{id}, op.Parameters...)
	op.Responses = map[string]*huma.Response{"101": {Description: "The connection becomes a WebSocket."}}
	op.Errors = []int{http.StatusNotFound, http.StatusConflict}
	a.documentErrors(&op)
	a.huma.OpenAPI().AddOperation(&op)
	a.mux.Handle(op.Method+" "+op.Path, a.Keys.Require(h))
}

func query(name, description string, schema *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: description, Schema: schema}
}
