package volume

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what a pool should have.
type model struct {
	volumes map[string]*modelVolume
}

type modelVolume struct {
	mib       int64
	text      string
	mounted   map[string]bool
	snapshots map[string]string
}

// Whatever is done in whatever order, the pool does what a map would, and what it
// refuses changes nothing.
func TestPoolDoesWhatAMapWouldDo(t *testing.T) {
	w := newWorld(t, 900)
	ids := rapid.SampledFrom([]string{"a", "b"})
	users := rapid.SampledFrom([]string{"u1", "u2"})
	names := rapid.SampledFrom([]string{"s1", "s2"})
	sizes := rapid.Int64Range(32, 64)
	// Each sequence takes half a second. -rapid.checks asks for as many as one likes.
	enough := time.Now().Add(10 * time.Second)
	asked := flag.Lookup("rapid.checks")
	bounded := asked.Value.String() == asked.DefValue
	done := 0
	sequence := func(t *rapid.T) {
		if bounded && time.Now().After(enough) {
			return
		}
		done++
		m := model{volumes: map[string]*modelVolume{}}
		defer w.forget()
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { m.compare(t, w) },
			"create": func(t *rapid.T) {
				id, size := ids.Draw(t, "id"), sizes.Draw(t, "MiB")
				have := m.volumes[id]
				m.want(t, w.Create(background, id, size*mib), have == nil || have.mib == size)
				if have == nil {
					m.volumes[id] = &modelVolume{mib: size, mounted: map[string]bool{}, snapshots: map[string]string{}}
				}
			},
			"delete": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				have := m.volumes[id]
				free := have == nil || len(have.mounted) == 0
				m.want(t, w.Delete(background, id), free)
				if free {
					delete(m.volumes, id)
				}
			},
			"grow": func(t *rapid.T) {
				id, size := ids.Draw(t, "id"), sizes.Draw(t, "MiB")
				err := w.Grow(background, id, size*mib)
				have := m.volumes[id]
				var later *GrowLaterError
				if errors.As(err, &later) && have != nil && len(have.mounted) > 0 && !mayResizeMounted() {
					err = nil
				}
				m.want(t, err, have != nil && size >= have.mib)
				if err == nil {
					have.mib = size
				}
			},
			"mount": func(t *rapid.T) {
				id, user := ids.Draw(t, "id"), users.Draw(t, "user")
				_, err := w.Mount(background, id, user)
				m.want(t, err, m.volumes[id] != nil)
				if err == nil {
					m.volumes[id].mounted[user] = true
				}
			},
			"unmount": func(t *rapid.T) {
				id, user := ids.Draw(t, "id"), users.Draw(t, "user")
				m.want(t, w.Unmount(background, id, user), true)
				if have := m.volumes[id]; have != nil {
					delete(have.mounted, user)
				}
			},
			"write": func(t *rapid.T) {
				id, text := ids.Draw(t, "id"), rapid.StringMatching("[a-z]{1,30}").Draw(t, "text")
				have := m.volumes[id]
				if have == nil || len(have.mounted) == 0 {
					t.Skip("not mounted")
				}
				for user := range have.mounted {
					if err := os.WriteFile(filepath.Join(w.cfg.RunDir, id, user, "f"), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
					break
				}
				have.text = text
			},
			"snapshot": func(t *rapid.T) {
				id, name := ids.Draw(t, "id"), names.Draw(t, "name")
				err := w.Snapshot(background, id, name)
				have := m.volumes[id]
				m.want(t, err, have != nil)
				if err == nil {
					if _, there := have.snapshots[name]; !there {
						have.snapshots[name] = have.text
					}
				}
			},
			"delete snapshot": func(t *rapid.T) {
				id, name := ids.Draw(t, "id"), names.Draw(t, "name")
				m.want(t, w.DeleteSnapshot(background, id, name), true)
				if have := m.volumes[id]; have != nil {
					delete(have.snapshots, name)
				}
			},
			"restore": func(t *rapid.T) {
				id, name := ids.Draw(t, "id"), names.Draw(t, "name")
				have := m.volumes[id]
				text, there := "", false
				if have != nil {
					text, there = have.snapshots[name]
				}
				err := w.Restore(background, id, name)
				m.want(t, err, there && len(have.mounted) == 0)
				if err == nil {
					have.text = text
				}
			},
			"clone": func(t *rapid.T) {
				from, to, name := "a", "b", rapid.SampledFrom([]string{"", "s1", "s2"}).Draw(t, "name")
				source, have := m.volumes[from], m.volumes[to]
				there := source != nil
				text, mib := "", int64(0)
				if there {
					text, mib = source.text, source.mib
					if name != "" {
						text, there = source.snapshots[name]
					}
				}
				err := w.Clone(background, from, name, to)
				m.want(t, err, there || have != nil)
				if err == nil && have == nil {
					if size, _, _ := allocation(w.image(to)); name != "" {
						mib = size >> 20 // that of the snapshot
					}
					m.volumes[to] = &modelVolume{mib: mib, text: text, mounted: map[string]bool{}, snapshots: map[string]string{}}
				}
			},
		})
	}
	rapid.Check(t, sequence)
	t.Logf("%d sequences", done)
}

func (m model) want(t *rapid.T, err error, fine bool) {
	t.Helper()
	if (err == nil) != fine {
		t.Fatalf("got %v; should it work: %v", err, fine)
	}
}

// compare wants the pool to have what the model has.
func (m model) compare(t *rapid.T, w *world) {
	t.Helper()
	list, err := w.List()
	if err != nil || len(list) != len(m.volumes) {
		t.Fatalf("%+v, %v", list, err)
	}
	known := Known{Users: []string{"u1", "u2"}}
	for _, v := range list {
		known.Volumes = append(known.Volumes, v.ID)
		want := m.volumes[v.ID]
		if want == nil || v.Bytes != want.mib*mib || len(v.Users) != len(want.mounted) || v.Snapshots != len(want.snapshots) {
			t.Fatalf("%+v, want %+v", v, want)
		}
		for user := range want.mounted {
			got, err := os.ReadFile(filepath.Join(w.cfg.RunDir, v.ID, user, "f"))
			if string(got) != want.text || err != nil && want.text != "" {
				t.Fatalf("%s has %q, %v; want %q", v.ID, got, err, want.text)
			}
		}
	}
	if found, err := w.Inspect(background, known); err != nil || len(found) > 0 {
		t.Fatalf("%+v, %v", found, err)
	}
}

// forget removes everything.
func (w *world) forget() {
	list, err := w.List()
	if err != nil {
		w.t.Error(err)
	}
	for _, v := range list {
		for _, user := range v.Users {
			err = errors.Join(err, w.Unmount(background, v.ID, user))
		}
		err = errors.Join(err, w.Delete(background, v.ID))
	}
	if err != nil {
		w.t.Error(fmt.Errorf("forget: %w", err))
	}
}
