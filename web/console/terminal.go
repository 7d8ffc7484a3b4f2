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
	Others  []string // the sessions that there are beside this one
	New     string   // a name that none has
	query   string   // the session, as the addresses below have it
}

// PageURL is the page of a session.
func (t terminalView) PageURL(session string) string {
	return fmt.Sprintf("/instances/%d/terminal?session=%s", t.ID, url.QueryEscape(session))
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
	if err := c.listSessions(r, v, &t); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, terminalPage(t))
}

// listSessions finds the instance's sessions and a name for a further one.
func (c *console) listSessions(r *http.Request, v *visit, t *terminalView) error {
	all, err := c.Scheduler.Sessions(r.Context(), v.account.ID, t.ID)
	taken := map[string]bool{t.Session: true}
	for _, s := range all {
		if !taken[s.Name] {
			t.Others = append(t.Others, s.Name)
		}
		taken[s.Name] = true
	}
	for n := 2; t.New == "" || taken[t.New]; n++ {
		t.New = fmt.Sprintf("shell-%d", n)
	}
	return err
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
