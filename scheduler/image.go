package scheduler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/ledger/registries"
	"ecolink/ledger/store"
)

// pruneEvery is how often images that nobody uses are looked for.
const pruneEvery = 10 * time.Minute

// WithRegistries has the scheduler use the accounts' log-ins for registries.
func WithRegistries(b *registries.Book) Option { return func(s *Scheduler) { s.logins = b } }

// wanted is an image as an account may have it: with the account's log-in for the
// image's registry, if it has one.
func (s *Scheduler) wanted(account identity.AccountID, name, digest string) (agent.Image, error) {
	i := agent.Image{Name: name, Digest: digest}
	if s.logins == nil {
		return i, nil
	}
	domain, err := agent.ImageDomain(name)
	if err != nil {
		return i, nil // what is no name is refused, with its reason, by who is asked for it
	}
	err = s.store.View(func(tx *store.Tx) error {
		l, ok, err := s.logins.Find(tx, account, domain)
		if ok {
			i.Login = &agent.RegistryLogin{Username: l.Username, Password: l.Password}
		}
		return err
	})
	return i, err
}

// imageOf is the image of an instance. Without its log-in, which can't be read, it
// may be here all the same; the registry refuses the rest.
func (s *Scheduler) imageOf(i Instance) agent.Image {
	image, err := s.wanted(i.Account, i.Image, i.ImageDigest)
	if err != nil {
		s.log.Warn("an account's log-in for a registry can't be read", "instance", i.ID, "err", err)
	}
	return image
}

// resolve finds out what an image's name means now, for an account that may have it.
func (s *Scheduler) resolve(ctx context.Context, account identity.AccountID, name string) (digest string, err error) {
	if name == "" || len(name) > maxImageBytes {
		return "", &Problem{Kind: Unprocessable, Field: "image", Message: "name a container image, such as docker.io/library/ubuntu:24.04"}
	}
	image, err := s.wanted(account, name, "")
	if err != nil {
		return "", err
	}
	if digest, err = s.machine.ResolveImage(ctx, image); err != nil {
		return "", imageProblem(name, err)
	}
	return digest, nil
}

// ImagesInUse names the images that instances run, or will run.
func (s *Scheduler) ImagesInUse() (names []string, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		names = nil
		live, err := everyLive(tx)
		for _, i := range live {
			if i.ImageDigest != "" {
				names = append(names, i.ImageDigest)
			} else {
				names = append(names, i.Image)
			}
		}
		return err
	})
	return names, err
}

// ImportedImages are those that the operator has brought to the box, by name: every
// account may launch them, and no registry is asked. What others have pulled is
// nobody else's to see, nor is what they call the same image.
func (s *Scheduler) ImportedImages(ctx context.Context) ([]agent.StoredImage, error) {
	all, err := s.machine.ImportedImages(ctx)
	if err != nil {
		return nil, err
	}
	imported := all[:0]
	for _, i := range all {
		if i.Names = i.ImportedNames; len(i.Names) > 0 {
			imported = append(imported, i)
		}
	}
	slices.SortFunc(imported, func(a, b agent.StoredImage) int { return strings.Compare(a.Names[0], b.Names[0]) })
	return imported, nil
}

// pruneImages removes, now and then, the images that nobody uses.
func (s *Scheduler) pruneImages(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pruneEvery):
		}
		inUse, err := s.ImagesInUse()
		var gone []agent.StoredImage
		if err == nil {
			gone, err = s.machine.PruneImages(ctx, inUse)
		}
		for _, i := range gone {
			s.log.Info("removed an image that nobody uses", "image", fmt.Sprint(i.Names), "digest", i.Digest, "last_used", i.Used)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("images that nobody uses could not be removed", "err", err)
		}
	}
}
