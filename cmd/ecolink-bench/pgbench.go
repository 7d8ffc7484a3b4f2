package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// pgbenchThreads is how many threads drive the clients.
const pgbenchThreads = 2

// The scripts that pgbench repeats.
var (
	pgbenchSpread = fmt.Sprintf("\\set account random(1, %d)\nSELECT charge(:account, %d, key_of_now());\n", accounts, chargeMicroUSD)
	pgbenchHot    = fmt.Sprintf("SELECT charge(%d, %d, key_of_now());\n", hotAccount, chargeMicroUSD)
)

// prepare makes the tables and the scripts.
func (p *postgres) prepare(ctx context.Context) error {
	files := map[string]string{"schema.sql": postgresSchema, p.script(false): pgbenchSpread, p.script(true): pgbenchHot}
	for name, text := range files {
		path := filepath.Join(p.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		if err := p.give(path); err != nil {
			return err
		}
	}
	_, err := p.run(ctx, "psql", "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1",
		"-v", fmt.Sprintf("credit=%d", creditMicroUSD), "-v", fmt.Sprintf("accounts=%d", accounts), "-f", "schema.sql")
	return err
}

func (p *postgres) script(hot bool) string {
	if hot {
		return "hot.sql"
	}
	return "spread.sql"
}

func (p *postgres) name() string { return postgresName }

func (p *postgres) pay(ctx context.Context, l load, during time.Duration) (rate, error) {
	out, err := p.run(ctx, "pgbench", "-n", "-M", "prepared", "-f", p.script(l.hot),
		"-c", strconv.Itoa(l.callers), "-j", strconv.Itoa(min(l.callers, pgbenchThreads)),
		"-T", strconv.Itoa(int(during.Seconds())), "--log", "--log-prefix=charges")
	if err != nil {
		return rate{}, err
	}
	perSecond, err := pgbenchRate(out)
	if err != nil {
		return rate{}, err
	}
	latencies, err := p.takeLogs()
	if err != nil {
		return rate{}, err
	}
	got, err := newRate(latencies, during)
	// Its own figure leaves the time out that connecting took, as ours has none.
	got.perSecond = perSecond
	return got, err
}

var pgbenchRateLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// pgbenchRate is the last such line: older versions print one with the time that
// connecting took before it.
func pgbenchRate(out string) (float64, error) {
	found := pgbenchRateLine.FindAllStringSubmatch(out, -1)
	if len(found) == 0 {
		return 0, fmt.Errorf("pgbench names no rate: %s", out)
	}
	return strconv.ParseFloat(found[len(found)-1][1], 64)
}

// takeLogs reads and removes the logs of the last run, one for each thread.
func (p *postgres) takeLogs() ([]time.Duration, error) {
	logs, err := filepath.Glob(filepath.Join(p.dir, "charges.*"))
	if err != nil {
		return nil, err
	}
	var latencies []time.Duration
	for _, path := range logs {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		latencies, err = pgbenchLatencies(latencies, f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return latencies, nil
}

// pgbenchLatencies adds the third field of each line: client, transaction, its
// time in microseconds, and what does not matter here. A transaction that failed
// has a word there.
func pgbenchLatencies(to []time.Duration, log io.Reader) ([]time.Duration, error) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			return nil, fmt.Errorf("%q is no line of pgbench's log", lines.Text())
		}
		micros, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("a transaction has no time but %q", fields[2])
		}
		to = append(to, time.Duration(micros)*time.Microsecond)
	}
	return to, lines.Err()
}
