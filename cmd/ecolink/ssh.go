package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"syscall"

	"ecolink/web"
	"ecolink/web/ssh"
)

// defaultSSHPort is where SSH is answered unless --ssh-listen says otherwise: 22 is
// the box's own.
const defaultSSHPort = 2222

// sshDoor is the SSH server before it serves; without a listener it is off.
type sshDoor struct {
	listener net.Listener
	key      ssh.HostKey
	address  web.SSHAddress
}

// openSSH listens for SSH. public is the URL that people use.
func openSSH(ctx context.Context, c serveConfig, public string, log *slog.Logger) (d sshDoor, err error) {
	at := c.sshListen
	if at == "" {
		return sshDoor{}, nil
	}
	patience := heldTimeout
	if at == "auto" {
		patience = autoHeldTimeout
		host, _, err := net.SplitHostPort(c.listen)
		if err != nil {
			return sshDoor{}, err
		}
		at = net.JoinHostPort(host, strconv.Itoa(defaultSSHPort))
	}
	d.listener, err = listen(ctx, at, patience, log)
	if errors.Is(err, syscall.EADDRINUSE) && c.sshListen == "auto" {
		// It was not asked for, and an upgrade must not fail for it.
		log.Warn("SSH is off: its port is taken; choose another with --ssh-listen", "address", at)
		return sshDoor{}, nil
	}
	if err != nil {
		return sshDoor{}, fmt.Errorf("--ssh-listen: %w: stop what listens there, or choose another address", err)
	}
	if d.key, err = ssh.LoadHostKey(filepath.Join(c.dataDir, "ssh")); err != nil {
		return sshDoor{}, errors.Join(err, d.listener.Close())
	}
	d.address = web.SSHAddress{Host: "localhost", HostKey: d.key.Public(), Fingerprint: d.key.Fingerprint()}
	if u, err := url.Parse(public); err == nil && u.Hostname() != "" {
		d.address.Host = u.Hostname()
	}
	if tcp, ok := d.listener.Addr().(*net.TCPAddr); ok {
		d.address.Port = tcp.Port
	}
	log.Info("SSH", "listen", d.listener.Addr().String(), "host_key", d.address.Fingerprint)
	return d, nil
}

func (d sshDoor) close() {
	if d.listener != nil {
		_ = d.listener.Close()
	}
}

// serve answers SSH until ctx ends.
func (d sshDoor) serve(ctx context.Context, deps ssh.Deps) error {
	if d.listener == nil {
		return nil
	}
	deps.Key = d.key
	return ssh.New(deps).Serve(ctx, d.listener)
}
