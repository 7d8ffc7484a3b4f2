package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web/admin"
)

// adminSocket is where the running box takes its operator's commands. Only root
// may open it; that is the whole of its authentication.
func adminSocket(runDir string) string { return filepath.Join(runDir, "admin.sock") }

// boxFlags are the flags that find the box on this machine.
type boxFlags struct{ dataDir, runDir *string }

func findBox(cmd *cobra.Command) boxFlags {
	return boxFlags{
		dataDir: cmd.PersistentFlags().String("data-dir", envOr("ECOLINK_DATA_DIR", defaultDataDir), "data of the box"),
		runDir:  cmd.PersistentFlags().String("run-dir", envOr("ECOLINK_RUN_DIR", "/run/ecolink"), "sockets of the box"),
	}
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// client reaches the box's operations: through its socket when EcoLink runs, or
// else by opening the database itself, with the same code answering. Only with
// create may there be none yet: a mistyped folder is not an empty box, whose books
// would agree. done must be called.
func (b boxFlags) client(ctx context.Context, create bool) (c *client, done func(), err error) {
	if b.runs(ctx) {
		return onSocket(adminSocket(*b.runDir)), func() {}, nil
	}
	st, err := b.open(create)
	if err != nil {
		return nil, nil, err
	}
	handler := admin.Handler(st, identity.NewHasher(1), version, slog.New(slog.DiscardHandler))
	local := &http.Client{Transport: inProcess{handler}}
	return &client{base: "http://ecolink", http: local}, func() { st.Close() }, nil
}

// runs tells whether EcoLink answers at its socket.
func (b boxFlags) runs(ctx context.Context) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", adminSocket(*b.runDir))
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// open opens the database of a box that does not run; only with create may there
// be none yet.
func (b boxFlags) open(create bool) (*store.Store, error) {
	socket := adminSocket(*b.runDir)
	if !create && !b.exists() {
		return nil, fmt.Errorf("there is no box at %s, and none answers at %s: name the --data-dir and --run-dir that EcoLink runs with, or set ECOLINK_DATA_DIR and ECOLINK_RUN_DIR", *b.dataDir, socket)
	}
	st, err := store.Open(b.database())
	if errors.Is(err, store.ErrLocked) {
		return nil, fmt.Errorf("%w, and EcoLink does not answer at %s: is --run-dir the one that it runs with?", err, socket)
	}
	return st, err
}

func (b boxFlags) database() string { return filepath.Join(*b.dataDir, "ecolink.db") }

// exists tells whether there is a box in the folder, or one that can't be seen.
func (b boxFlags) exists() bool {
	_, err := os.Stat(b.database())
	return !errors.Is(err, os.ErrNotExist)
}

// inProcess answers requests with a handler, without a network.
type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func adminCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Operate this box (as root, on the box itself)"}
	box := findBox(cmd)
	cmd.AddCommand(bootstrapCommand(box), topupCommand(box), correctCommand(box), priceCommand(box), rateCommand(box), ratesCommand(box))
	return cmd
}

func bootstrapCommand(box boxFlags) *cobra.Command {
	var email, passwordFile, account string
	cmd := &cobra.Command{
		Use:   "bootstrap --email E --password-file F",
		Short: "Make the first operator, their account and an API key; prints JSON",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := readSecret(passwordFile, cmd.InOrStdin())
			if err != nil {
				return err
			}
			var out map[string]any
			in := map[string]string{"email": email, "password": password}
			if account != "" {
				in["account_name"] = account
			}
			none := !box.runs(cmd.Context()) && !box.exists()
			err = box.call(cmd.Context(), http.MethodPost, "/admin/bootstrap", in, &out)
			if none && box.exists() { // also when it refuses the operator
				fmt.Fprintf(cmd.ErrOrStderr(), "made a new box in %s; for one that is elsewhere, name its --data-dir and --run-dir\n", *box.dataDir)
			}
			if err != nil {
				return err
			}
			return printer{out: cmd.OutOrStdout(), json: true}.show(out, nil)
		},
	}
	cmd.Flags().StringVar(&email, "email", "", "the operator's e-mail")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file with the password, or - for standard input")
	cmd.Flags().StringVar(&account, "account", "", "name of the account")
	cmd.MarkFlagRequired("email")
	cmd.MarkFlagRequired("password-file")
	return cmd
}

func readSecret(path string, stdin io.Reader) (string, error) {
	var raw []byte
	var err error
	if path == "-" {
		path = "standard input"
		raw, err = io.ReadAll(io.LimitReader(stdin, 1<<16))
	} else {
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return "", cannotRead(path, err)
	}
	return strings.TrimRight(string(raw), "\r\n"), nil
}

// call reaches the box for one operation.
func (b boxFlags) call(ctx context.Context, method, path string, in, out any) error {
	c, done, err := b.client(ctx, path == "/admin/bootstrap")
	if err != nil {
		return err
	}
	defer done()
	return c.do(ctx, method, path, in, out)
}

// moveMoney reaches the box for an operation that moves money. It is done once for
// its key; without one it gets a new one, which whoever can't know whether it was
// done is told.
func (b boxFlags) moveMoney(ctx context.Context, path, key string, in map[string]string, out any) error {
	if key == "" {
		// Of the rising kind: one that the ledger can't have seen need not be looked up.
		made, err := uuid.NewV7()
		if err != nil {
			return err
		}
		key = made.String()
	}
	in["key"] = key
	c, done, err := b.client(ctx, false)
	if err != nil {
		return err
	}
	defer done()
	err = c.call(ctx, request{method: http.MethodPost, path: path, in: in, repeatable: true}, out)
	var refused *apiError
	if err == nil || errors.As(err, &refused) && refused.Status < 500 {
		return err
	}
	return fmt.Errorf("%w; run it again with --key %s: it is done once", err, key)
}

func topupCommand(box boxFlags) *cobra.Command {
	var note, key string
	cmd := &cobra.Command{
		Use:     "topup ACCOUNT AMOUNT",
		Short:   "Add credit to an account, given by number or its owner's e-mail",
		Example: "  ecolink admin topup ana@example.org 25.00 --note 'invoice 2026-07'",
		Args:    cobra.ExactArgs(2),
	}
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		in := map[string]string{"account": args[0], "amount": args[1], "note": note}
		var out map[string]any
		if err := box.moveMoney(cmd.Context(), "/admin/topup", key, in, &out); err != nil {
			return err
		}
		return p.show(out, func(w io.Writer) { fmt.Fprintf(w, "added %s to account %s\n", dollars(args[1]), args[0]) })
	}
	cmd.Flags().StringVar(&note, "note", "", "why, for the account's statement")
	cmd.Flags().StringVar(&key, "key", "", "idempotency key: the same key credits once; without it, a new one is made")
	return cmd
}

func rateCommand(box boxFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "rate GPU_TYPE AMOUNT",
		Short:   "Set the price in dollars per GPU-hour of a GPU type",
		Example: "  ecolink admin rate h100 1.60",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := map[string]string{"gpu_type": args[0], "rate": args[1]}
			var out struct {
				Warning string `json:"warning"`
			}
			if err := box.call(cmd.Context(), http.MethodPost, "/admin/rate", in, &out); err != nil {
				return err
			}
			if out.Warning != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "ecolink: "+printable(out.Warning))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s costs %s per GPU-hour from now on\n", args[0], dollars(args[1]))
			return nil
		},
	}
}

func ratesCommand(box boxFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "rates",
		Short: "Print the prices as JSON",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out any
			if err := box.call(cmd.Context(), http.MethodGet, "/admin/rates", nil, &out); err != nil {
				return err
			}
			return printer{out: cmd.OutOrStdout(), json: true}.show(out, nil)
		},
	}
}

func ledgerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ledger", Short: "Inspect the books"}
	box := findBox(cmd)
	verify := &cobra.Command{
		Use:   "verify",
		Short: "Rebuild all balances from the journal and compare",
		Args:  cobra.NoArgs,
	}
	printed := printing(verify)
	verify.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		var out struct {
			Rows      int64  `json:"rows"`
			Archived  int64  `json:"archived"`
			Accounts  int    `json:"accounts"`
			OpenHolds int    `json:"open_holds"`
			Funded    string `json:"funded"`
			Earned    string `json:"earned"`
			InWallets string `json:"in_wallets"`
			LastHash  string `json:"last_hash"`
			Usage     struct {
				Rows   int64 `json:"rows"`
				Behind int64 `json:"behind"`
			} `json:"usage"`
		}
		if err := box.call(cmd.Context(), http.MethodPost, "/admin/ledger/verify", nil, &out); err != nil {
			return err
		}
		return p.show(out, func(w io.Writer) {
			fmt.Fprintf(w, "the books agree: %s (%d archived), %s, %s; %s came in, %s was earned, %s is in wallets\n",
				count(out.Rows, "row"), out.Archived, count(out.Accounts, "account"), count(out.OpenHolds, "open hold"),
				dollars(out.Funded), dollars(out.Earned), dollars(out.InWallets))
			fmt.Fprintf(w, "the sums of usage agree: %s, %d more to be added\n", count(out.Usage.Rows, "row"), out.Usage.Behind)
			fmt.Fprintf(w, "newest row's hash: %s\n", out.LastHash)
		})
	}
	cmd.AddCommand(verify, acceptClockCommand(box), ledgerArchiveCommand(box), rebuildUsageCommand(box))
	return cmd
}
