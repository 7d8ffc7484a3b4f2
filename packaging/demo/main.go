package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\nThe demonstration failed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("containers need root: run it with sudo")
	}
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer func() {
		heading("Taking everything away")
		err = errors.Join(err, w.close())
		if err == nil {
			fmt.Println("nothing is left: no mount, namespace, bridge, container or process")
		}
	}()
	if err := w.start(ctx); err != nil {
		return err
	}
	if err := w.story(ctx); err != nil {
		return err
	}
	if os.Getenv("DEMO_EXIT") != "" {
		return nil
	}
	fmt.Printf("\nEcoLink stays up until you press Ctrl-C.\n\n  console   %s\n  e-mail    %s\n  password  %s\n  an image  %s\n", w.url, email, w.password, w.image)
	select {
	case <-ctx.Done():
		return nil
	case err := <-w.ended:
		return fmt.Errorf("EcoLink ended by itself: %w", err)
	}
}

func heading(text string) { fmt.Printf("\n── %s\n", text) }
