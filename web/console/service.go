package console

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web"
)

// answerTime is how long a page waits to learn whether a service answers.
const answerTime = 300 * time.Millisecond

// serviceView is what of an instance can be opened in the browser.
type serviceView struct {
	Answers, Jupyter bool // whether something listens: the service, and Jupyter
	URL              string
}

func (c *console) lookAtService(ctx context.Context, i scheduler.Instance) (s serviceView) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	s.URL = c.Addresses.ServiceURL(i.ID)
	s.Answers = i.ServicePort != 0 && c.Scheduler.Answers(ctx, i, i.ServicePort)
	s.Jupyter = i.JupyterToken != "" && c.Scheduler.Answers(ctx, i, scheduler.JupyterPort)
	return s
}

// serviceForm is the question how an instance's service is reached.
type serviceForm struct {
	frame
	scheduler.Instance
	Port     string // as it was typed
	Public   bool
	Problems problems
}

// serviceWords says who reaches the service, and whether there is one yet.
func serviceWords(i instanceView) string {
	words := fmt.Sprintf("port %d, members of this account only", i.ServicePort)
	if i.ServiceOpen {
		words = fmt.Sprintf("port %d, open to everybody", i.ServicePort)
	}
	if i.State == scheduler.Running && !i.Service.Answers {
		words += "; nothing listens there yet"
	}
	return words
}

// servicePath leads to it from the console, which hands its members over.
func servicePath(i scheduler.Instance) string {
	return fmt.Sprintf("/gpu-instances/%d/service/", i.ID)
}

func (c *console) serviceForm(w http.ResponseWriter, r *http.Request, v *visit) error {
	i, err := c.ownInstance(r, v)
	if err != nil {
		return err
	}
	q := serviceForm{Instance: i, Public: i.ServiceOpen}
	if i.ServicePort != 0 {
		q.Port = strconv.Itoa(i.ServicePort)
	}
	return c.showService(w, r, v, http.StatusOK, q)
}

func (c *console) showService(w http.ResponseWriter, r *http.Request, v *visit, status int, q serviceForm) error {
	q.frame = c.frame(r, v, "Service of "+q.Name)
	if isPart(r) {
		return show(w, r, status, serviceQuestion(q))
	}
	return show(w, r, status, serviceQuestionPage(q))
}

func (c *console) setService(w http.ResponseWriter, r *http.Request, v *visit) error {
	i, err := c.ownInstance(r, v)
	if err != nil {
		return err
	}
	q := serviceForm{Instance: i, Port: r.PostFormValue("service_port"), Public: r.PostFormValue("service_public") != ""}
	port, err := readPort(q.Port)
	if err == nil {
		_, err = c.Scheduler.SetService(r.Context(), scheduler.ServiceRequest{
			Account: v.account.ID, Instance: i.ID, Actor: identity.UserActor(v.user.ID), From: web.From(r), Port: &port, Open: &q.Public,
		})
	}
	if err != nil {
		f := web.Explain(r.Context(), c.Log, err)
		if f.Status >= 500 {
			return f
		}
		q.Problems = problemsOf(f, "service_port")
		return c.showService(w, r, v, f.Status, q)
	}
	http.Redirect(w, r, fmt.Sprintf("/instances/%d?note=service", i.ID), http.StatusSeeOther)
	return nil
}

// readPort reads a port's field; an empty one is no service.
func readPort(s string) (int, error) {
	if s = strings.TrimSpace(s); s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, unprocessable("service_port", "a port is a whole number, such as 8000; leave it empty for no service")
	}
	return n, nil
}
