package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"ecolink/scheduler"
	"ecolink/web"
)

// terminalView is the page with a terminal in it.
type terminalView struct {
	frame
	scheduler.Instance
	Session string
	query   string // the session, as the addresses below have it
}

// SocketURL is where the page's script connects.
func (t terminalView) SocketURL() string {
	return fmt.Sprintf("/instances/%d/terminal/socket%s", t.ID, t.query)
}

// StatusURL tells the script whether trying again is any use.
func (t terminalView) StatusURL() string {
	return fmt.Sprintf("/instances/%d/terminal/status", t.ID)
}

func (c *console) terminal(w http.ResponseWriter, r *http.Request, v *visit) error {
	i, err := c.running(r, v)
	if err != nil {
		return err
	}
	t := terminalView{frame: c.frame(r, v, "Terminal of "+i.Name), Instance: i, Session: r.URL.Query().Get("session")}
	if t.Session == "" {
		t.Session = scheduler.MainSession
	} else {
		t.query = "?session=" + url.QueryEscape(t.Session)
	}
	return show(w, r, http.StatusOK, terminalPage(t))
}

// running reads an instance and refuses one that has no shell to show.
func (c *console) running(r *http.Request, v *visit) (scheduler.Instance, error) {
	i, err := c.ownInstance(r, v)
	if err == nil && i.State != scheduler.Running {
		err = web.Fail(http.StatusConflict, "conflict", "", fmt.Sprintf("%s is %s: a terminal opens while it is running", i.Name, i.State))
	}
	return i, err
}

// terminalStatus answers the page's script, which can't see why a WebSocket was
// refused.
func (c *console) terminalStatus(w http.ResponseWriter, r *http.Request, v *visit) error {
	i, err := c.running(r, v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"message": "", "state": string(i.State)})
	return nil
}

// terminalSocket hands the connection over. It ends when the session does.
func (c *console) terminalSocket(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, stop := c.bounded(r.Context(), v)
	defer stop()
	c.Terminal.ServeHTTP(w, r.WithContext(ctx))
	return nil
}
