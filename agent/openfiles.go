package agent

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"ecolink/agent/volume"
)

// filesUser has the volumes whose files somebody on the host looks at.
const filesUser = "files"

// filesQuiet is how long a volume stays mounted after its files were last used,
// so that a browser that goes from folder to folder does not mount it each time.
const filesQuiet = 30 * time.Second

var errBoxClosed = errors.New("EcoLink is stopping")

// openFiles are the volumes whose files are looked at, or were a moment ago.
type openFiles struct {
	pool  *volume.Pool
	quiet time.Duration

	mu     sync.Mutex
	open   map[string]*openFile
	closed bool
}

// openFile is one of them. busy is held by who mounts or unmounts it; the rest is
// under openFiles.mu.
type openFile struct {
	busy  sync.Mutex
	users int
	idle  *time.Timer // set while users is 0
}

func newOpenFiles(pool *volume.Pool) *openFiles {
	f := &openFiles{pool: pool, quiet: filesQuiet, open: map[string]*openFile{}}
	// What an EcoLink that was killed had open is nobody's now. Should the kernel
	// not tell, a deletion still unmounts it.
	users, _ := pool.Users()
	for _, id := range users[filesUser] {
		if o, err := f.use(id); err == nil {
			f.rest(id, o)
		}
	}
	return f
}

func (f *openFiles) openVolume(ctx context.Context, id string) (*OpenVolume, error) {
	o, err := f.use(id)
	if err != nil {
		return nil, err
	}
	root, err := f.mount(ctx, id, o)
	if err != nil {
		f.rest(id, o)
		return nil, err
	}
	return &OpenVolume{Root: root, Close: sync.OnceValue(func() error {
		defer f.rest(id, o)
		return root.Close()
	})}, nil
}

func (f *openFiles) mount(ctx context.Context, id string, o *openFile) (*os.Root, error) {
	o.busy.Lock()
	defer o.busy.Unlock()
	if err := ctx.Err(); err != nil { // it waited for others too long
		return nil, err
	}
	path, err := f.pool.Mount(ctx, id, filesUser)
	if err != nil {
		return nil, err
	}
	return os.OpenRoot(path)
}

// use counts one more user of a volume.
func (f *openFiles) use(id string) (*openFile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errBoxClosed
	}
	o := f.open[id]
	if o == nil {
		o = &openFile{}
		f.open[id] = o
	}
	if o.idle != nil {
		o.idle.Stop()
		o.idle = nil
	}
	o.users++
	return o, nil
}

// rest counts one user less. A while after the last, it is unmounted.
func (f *openFiles) rest(id string, o *openFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.users--; o.users == 0 && !f.closed {
		o.idle = time.AfterFunc(f.quiet, func() {
			if f.drop(context.Background(), id) != nil { // a file is open still
				f.restAgain(id)
			}
		})
	}
}

func (f *openFiles) restAgain(id string) {
	if o, err := f.use(id); err == nil {
		f.rest(id, o)
	}
}

// drop unmounts a volume that nobody uses; with users it is a BusyError.
func (f *openFiles) drop(ctx context.Context, id string) error {
	f.mu.Lock()
	o := f.open[id]
	f.mu.Unlock()
	if o == nil {
		return f.pool.Unmount(ctx, id, filesUser)
	}
	o.busy.Lock() // who comes now waits, and mounts it again
	defer o.busy.Unlock()
	f.mu.Lock()
	users := o.users
	f.mu.Unlock()
	if users > 0 {
		return &volume.BusyError{Volume: id, Users: []string{"somebody who looks at its files"}}
	}
	if err := f.pool.Unmount(ctx, id, filesUser); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.users == 0 && f.open[id] == o {
		delete(f.open, id)
	}
	return nil
}

// close unmounts what nobody uses. The rest waits for the next start.
func (f *openFiles) close(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	var ids []string
	for id, o := range f.open {
		if o.idle != nil {
			o.idle.Stop()
		}
		if o.users == 0 {
			ids = append(ids, id)
		}
	}
	f.mu.Unlock()
	var err error
	for _, id := range ids {
		err = errors.Join(err, f.drop(ctx, id))
	}
	return err
}
