package endtoend

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// browser starts a headless Chromium with a fresh profile.
func browser(t testing.TB) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs chromium")
		}
		t.Skip("needs chromium")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1280, 800))
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts it; what ends this context ends it
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func css(selector string) chromedp.CSS { return chromedp.CSS(selector) }

// typeKeys presses and releases keys as a keyboard does. chromedp's own KeyEvent
// sends the character twice, with the key and once more by itself, which a
// terminal takes for two.
func typeKeys(text string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		for _, r := range text {
			press := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: string(r), Text: string(r)}
			if r == '\r' {
				press.Key, press.Code, press.WindowsVirtualKeyCode = "Enter", "Enter", 13
			}
			release := press
			release.Type, release.Text = input.DispatchKeyEventTypeKeyUp, ""
			for _, event := range []input.DispatchKeyEventParams{press, release} {
				if _, err := cdp.Call(ctx, t, input.DispatchKeyEvent, event); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// screenText is what the terminal shows.
const screenText = `(document.querySelector('.xterm-rows')?.innerText ?? '')`

func TestPersonLogsInLaunchesWorksInTheTerminalAndTerminates(t *testing.T) {
	b := newBox(t, 1)
	ctx := browser(t)
	page := func() string {
		text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
		if err != nil {
			t.Errorf("read the page: %v", err)
		}
		return text
	}
	step := func(what string, actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatalf("%s: %v; the page says:\n%s", what, err, page())
		}
	}
	step("log in",
		chromedp.Navigate(b.url+"/login"),
		chromedp.SendKeys(css("input[name=email]"), operator),
		chromedp.SendKeys(css("input[name=password]"), password),
		chromedp.Submit(css("input[name=password]")),
		chromedp.WaitVisible(css(`a[href="/instances/new"]`)),
	)
	step("launch",
		chromedp.Navigate(b.url+"/instances/new"),
		chromedp.SetValue(css("input[name=name]"), "trainer"),
		chromedp.SetValue(css("input[name=image]"), b.image),
		chromedp.Submit(css("input[name=image]")),
	)
	var id int64
	b.eventually("the instance is there", func() bool {
		for _, i := range b.list() {
			id = i.ID
		}
		return id != 0
	})
	b.await(id, "running")
	step("open the terminal",
		chromedp.Navigate(fmt.Sprintf("%s/instances/%d/terminal", b.url, id)),
		chromedp.WaitVisible(css(".xterm-screen")),
		chromedp.Poll[chromedp.Void](screenText+`.includes('#')`),
		chromedp.Click(css(".xterm-screen")),
		typeKeys("echo $((6*7))\r"),
		chromedp.Poll[chromedp.Void](`/^42\s*$/m.test((`+screenText+`).replaceAll('\u00a0', ' '))`),
	)
	form := fmt.Sprintf(`form[action="/instances/%d/terminate"] button`, id)
	step("terminate",
		chromedp.Navigate(fmt.Sprintf("%s/instances/%d/terminate", b.url, id)),
		chromedp.WaitVisible(css(form)),
		chromedp.Click(css(form)),
	)
	b.await(id, "terminated")
	step("look at the bill", chromedp.Navigate(b.url+"/billing"))
	for _, want := range []string{"refund", "hold"} {
		if text := page(); !strings.Contains(strings.ToLower(text), want) {
			t.Errorf("no %q on the billing page:\n%s", want, text)
		}
	}
}
