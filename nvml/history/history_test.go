package history

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// newHistory opens a folder; what it logs is in the buffer.
func newHistory(t *testing.T, dir string) (*History, *bytes.Buffer) {
	t.Helper()
	var logged bytes.Buffer
	h, err := Open(dir, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h, &logged
}

func figures(values map[Figure]float64) (f Figures) {
	for figure, value := range values {
		f.Set(figure, value)
	}
	return f
}

func mustAppend(t *testing.T, h *History, device string, at time.Time, values map[Figure]float64) {
	t.Helper()
	if err := h.Append(device, at, figures(values)); err != nil {
		t.Fatal(err)
	}
}

func mustQuery(t *testing.T, h *History, device string, from, to time.Time, step time.Duration) []Point {
	t.Helper()
	points, err := h.Query(device, from, to, step)
	if err != nil {
		t.Fatal(err)
	}
	return points
}

// noon is the beginning of a minute.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func TestMinuteHasMeanAndMaxAndAGapIsAGap(t *testing.T) {
	h, _ := newHistory(t, t.TempDir())
	for i := range 60 {
		values := map[Figure]float64{0: float64(i)}
		if i%2 == 0 {
			values[1] = 10
		}
		mustAppend(t, h, "GPU-a", noon().Add(time.Duration(i)*time.Second), values)
	}
	mustAppend(t, h, "GPU-a", noon().Add(3*time.Minute), map[Figure]float64{0: 7})
	points := mustQuery(t, h, "GPU-a", noon(), noon().Add(time.Hour), time.Minute)
	if len(points) != 2 || !points[0].Time.Equal(noon()) || !points[1].Time.Equal(noon().Add(3*time.Minute)) {
		t.Fatalf("points %+v", points)
	}
	if points[0].Mean != figures(map[Figure]float64{0: 29.5, 1: 10}) || points[0].Max != figures(map[Figure]float64{0: 59, 1: 10}) {
		t.Errorf("the full minute is %+v", points[0])
	}
	if points[1].Mean != figures(map[Figure]float64{0: 7}) {
		t.Errorf("the minute that goes on is %+v", points[1])
	}
	// Ten minutes weigh each figure by the seconds that had it.
	points = mustQuery(t, h, "GPU-a", noon(), noon().Add(time.Hour), 10*time.Minute)
	if len(points) != 1 || points[0].Mean != figures(map[Figure]float64{0: (29.5*60 + 7) / 61, 1: 10}) {
		t.Errorf("ten minutes are %+v", points)
	}
}

func TestHourAndThirtyDaysAreKeptAndNoMore(t *testing.T) {
	h, _ := newHistory(t, t.TempDir())
	mustAppend(t, h, "GPU-a", noon(), map[Figure]float64{0: 1})
	later := noon().Add(FineSeconds * time.Second)
	mustAppend(t, h, "GPU-a", later, map[Figure]float64{0: 2})
	if points := mustQuery(t, h, "GPU-a", noon(), later.Add(time.Second), time.Second); len(points) != 1 || !points[0].Time.Equal(later) {
		t.Errorf("seconds %+v", points)
	}
	if points := mustQuery(t, h, "GPU-a", noon(), later.Add(time.Minute), time.Minute); len(points) != 2 {
		t.Errorf("minutes %+v", points)
	}
	month := noon().Add(CoarseMinutes * time.Minute)
	mustAppend(t, h, "GPU-a", month, map[Figure]float64{0: 3})
	mustAppend(t, h, "GPU-a", month.Add(time.Minute), map[Figure]float64{0: 4})
	points := mustQuery(t, h, "GPU-a", noon(), month.Add(time.Hour), time.Hour)
	if len(points) != 2 || !points[0].Time.Equal(later) || !points[1].Time.Equal(month) {
		t.Errorf("hours %+v", points)
	}
}

func TestFileDoesNotGrow(t *testing.T) {
	dir := t.TempDir()
	h, _ := newHistory(t, dir)
	sizes := map[int64]bool{}
	for i := range 400 {
		mustAppend(t, h, "GPU-a", noon().Add(time.Duration(i)*97*time.Second), map[Figure]float64{0: 1, 3: 2})
		info, err := os.Stat(filepath.Join(dir, "GPU-a.ring"))
		if err != nil {
			t.Fatal(err)
		}
		sizes[info.Size()] = true
	}
	if want := (layout{0b1001}).fileBytes(); len(sizes) != 1 || !sizes[want] {
		t.Errorf("sizes %v, want %d alone", sizes, want)
	}
}

func TestNewFigureKeepsWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	h, _ := newHistory(t, dir)
	mustAppend(t, h, "GPU-a", noon(), map[Figure]float64{5: 50})
	mustAppend(t, h, "GPU-a", noon().Add(time.Minute), map[Figure]float64{5: 51})
	mustAppend(t, h, "GPU-a", noon().Add(2*time.Minute), map[Figure]float64{2: 20, 63: 63})
	for range 2 {
		points := mustQuery(t, h, "GPU-a", noon(), noon().Add(time.Hour), time.Minute)
		if len(points) != 3 || points[0].Mean != figures(map[Figure]float64{5: 50}) || points[2].Mean != figures(map[Figure]float64{2: 20, 63: 63}) {
			t.Errorf("points %+v", points)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		h, _ = newHistory(t, dir)
	}
}

func TestDamagedFileIsSetAsideAndBegunAnew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "GPU-a.ring")
	for name, content := range map[string][]byte{"empty": {}, "cut": []byte(magic), "other": bytes.Repeat([]byte("x"), headerBytes), "zeros": make([]byte, 2*headerBytes)} {
		if err := os.WriteFile(path, content, 0o640); err != nil {
			t.Fatal(err)
		}
		h, logged := newHistory(t, dir)
		mustAppend(t, h, "GPU-a", noon(), map[Figure]float64{0: 1})
		if points := mustQuery(t, h, "GPU-a", noon(), noon().Add(time.Minute), time.Second); len(points) != 1 {
			t.Errorf("%s: points %+v", name, points)
		}
		if kept, err := os.ReadFile(path + asideSuffix); err != nil || !bytes.Equal(kept, content) {
			t.Errorf("%s: it was not kept: %v", name, err)
		}
		if !strings.Contains(logged.String(), "damaged") || !strings.Contains(logged.String(), "GPU-a.ring") {
			t.Errorf("%s: logged %s", name, logged)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFewDamagedFilesAreKept(t *testing.T) {
	dir := t.TempDir()
	h, _ := newHistory(t, dir)
	for i := range maxSetAside + 3 {
		device := fmt.Sprintf("GPU-%d", i)
		if err := os.WriteFile(filepath.Join(dir, device+ringSuffix), nil, 0o640); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, h, device, noon(), map[Figure]float64{0: 1})
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, "*"+asideSuffix)); len(kept) != maxSetAside {
		t.Errorf("kept %v", kept)
	}
}

func TestFileThatIsCutOffLosesOnlyItsEnd(t *testing.T) {
	dir := t.TempDir()
	h, _ := newHistory(t, dir)
	mustAppend(t, h, "GPU-a", noon(), map[Figure]float64{0: 1})
	mustAppend(t, h, "GPU-a", noon().Add(time.Hour-time.Second), map[Figure]float64{0: 2}) // the last place
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	l := layout{1}
	if err := os.Truncate(filepath.Join(dir, "GPU-a.ring"), headerBytes+l.fineBytes()*(FineSeconds-1)+3); err != nil {
		t.Fatal(err)
	}
	h, logged := newHistory(t, dir)
	points := mustQuery(t, h, "GPU-a", noon(), noon().Add(time.Hour), time.Second)
	if len(points) != 1 || !points[0].Time.Equal(noon()) {
		t.Errorf("points %+v", points)
	}
	if !strings.Contains(logged.String(), "another size") {
		t.Errorf("logged %s", logged)
	}
	if info, err := os.Stat(filepath.Join(dir, "GPU-a.ring")); err != nil || info.Size() != l.fileBytes() {
		t.Errorf("its size is %d, %v", info.Size(), err)
	}
}

func TestRecordThatIsNotInItsPlaceIsAGap(t *testing.T) {
	dir := t.TempDir()
	h, _ := newHistory(t, dir)
	for i := range 3 {
		mustAppend(t, h, "GPU-a", noon().Add(time.Duration(i)*time.Minute), map[Figure]float64{0: 1})
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "GPU-a.ring")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l := layout{1}
	move := func(base, size, from, to int64) {
		copy(raw[base+to*size:base+(to+1)*size], raw[base+from*size:base+(from+1)*size])
	}
	last := noon().Add(2 * time.Minute).Unix()
	move(headerBytes, l.fineBytes(), finePlace(last), finePlace(last)+7)
	first := noon().Unix()
	move(l.coarseAt(), l.coarseBytes(), coarsePlace(first), coarsePlace(first)+9)
	if err := os.WriteFile(path, raw, 0o640); err != nil {
		t.Fatal(err)
	}
	h, _ = newHistory(t, dir)
	if points := mustQuery(t, h, "GPU-a", noon(), noon().Add(time.Hour), time.Minute); len(points) != 3 {
		t.Errorf("points %+v", points)
	}
	r, err := h.ringToRead("GPU-a.ring")
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	if err := errors.Join(
		r.eachSecond(0, FineSeconds, func(*second) { records++ }),
		r.eachMinute(0, CoarseMinutes, func(*minute) { records++ }),
	); err != nil {
		t.Fatal(err)
	}
	if records != 3+2 {
		t.Errorf("%d records are read", records)
	}
}

func TestClockThatGoesBackLeavesPointsInOrder(t *testing.T) {
	h, _ := newHistory(t, t.TempDir())
	mustAppend(t, h, "GPU-a", noon().Add(10*time.Minute), map[Figure]float64{0: 1})
	mustAppend(t, h, "GPU-a", noon(), map[Figure]float64{0: 2})
	mustAppend(t, h, "GPU-a", noon().Add(time.Second), map[Figure]float64{0: 3})
	mustAppend(t, h, "GPU-a", noon(), map[Figure]float64{0: 4}) // the second comes again
	points := mustQuery(t, h, "GPU-a", noon().Add(-time.Hour), noon().Add(time.Hour), 2*time.Second)
	if len(points) != 2 || points[0].Mean != figures(map[Figure]float64{0: 3.5}) || points[1].Mean != figures(map[Figure]float64{0: 1}) {
		t.Errorf("points %+v", points)
	}
}

func TestMinuteThatComesAgainIsCountedOnce(t *testing.T) {
	h, _ := newHistory(t, t.TempDir())
	mustAppend(t, h, "GPU-a", noon(), map[Figure]float64{0: 1})
	mustAppend(t, h, "GPU-a", noon().Add(time.Minute), map[Figure]float64{0: 5})
	mustAppend(t, h, "GPU-a", noon().Add(10*time.Second), map[Figure]float64{0: 3})
	for range 2 { // while it goes on, and when it is over again
		points := mustQuery(t, h, "GPU-a", noon(), noon().Add(time.Hour), time.Minute)
		if len(points) != 2 || points[0].Mean != figures(map[Figure]float64{0: 2}) || points[0].Max != figures(map[Figure]float64{0: 3}) {
			t.Errorf("points %+v", points)
		}
		mustAppend(t, h, "GPU-a", noon().Add(time.Minute), map[Figure]float64{0: 5})
	}
}

func TestDeviceThatWasNotSeenForTheLongestTimeGoes(t *testing.T) {
	dir := t.TempDir()
	h, _ := newHistory(t, dir)
	name := func(i int) string { return fmt.Sprintf("GPU-%03d", i) }
	for i := range MaxDevices {
		mustAppend(t, h, name(i), noon(), map[Figure]float64{0: 1})
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range MaxDevices { // the last is the oldest but for those that are used again
		at := noon().Add(-time.Duration(i) * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, name(i)+ringSuffix), at, at); err != nil {
			t.Fatal(err)
		}
	}
	h, logged := newHistory(t, dir)
	used, oldest := name(MaxDevices-1), name(MaxDevices-2)
	mustAppend(t, h, used, noon(), map[Figure]float64{0: 1})
	at := noon().AddDate(-20, 0, 0) // whatever the clock did to it
	if err := os.Chtimes(filepath.Join(dir, used+ringSuffix), at, at); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, h, "GPU-new", noon(), map[Figure]float64{0: 1})
	files, _ := filepath.Glob(filepath.Join(dir, "*"+ringSuffix))
	if len(files) != MaxDevices {
		t.Errorf("%d files", len(files))
	}
	for device, want := range map[string]int{used: 1, "GPU-new": 1, name(0): 1, oldest: 0} {
		if points := mustQuery(t, h, device, noon(), noon().Add(time.Minute), time.Second); len(points) != want {
			t.Errorf("%s has %d points, want %d", device, len(points), want)
		}
	}
	if !strings.Contains(logged.String(), oldest) {
		t.Errorf("logged %s", logged)
	}
}

func TestLeftoverOfACrashIsRemoved(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "GPU-a.ring"+tempSuffix)
	if err := os.WriteFile(left, []byte("half"), 0o640); err != nil {
		t.Fatal(err)
	}
	newHistory(t, dir)
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestNameOfADeviceStaysInItsFolder(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "history")
	h, _ := newHistory(t, dir)
	old := "MIG-GPU-6c0cbd2e-1c3f-4c1b-9a2f-000000000000/1/0" // as drivers before 470 name it
	mustAppend(t, h, old, noon(), map[Figure]float64{0: 1})
	if points := mustQuery(t, h, old, noon(), noon().Add(time.Second), time.Second); len(points) != 1 {
		t.Errorf("points %+v", points)
	}
	for _, bad := range []string{"", ".", "..", "../x", strings.Repeat("x", maxNameBytes+1)} {
		if err := h.Append(bad, noon(), Figures{}); err == nil {
			t.Errorf("%q was taken", bad)
		}
		if _, err := h.Query(bad, noon(), noon().Add(time.Second), time.Second); err == nil {
			t.Errorf("%q was asked for", bad)
		}
	}
	if entries, _ := os.ReadDir(parent); len(entries) != 1 {
		t.Errorf("the parent has %v", entries)
	}
}

func TestBadQueriesAreRefusedOrEmpty(t *testing.T) {
	h, _ := newHistory(t, t.TempDir())
	mustAppend(t, h, "GPU-a", noon(), map[Figure]float64{0: 1})
	if points := mustQuery(t, h, "GPU-b", noon(), noon().Add(time.Minute), time.Second); len(points) != 0 {
		t.Errorf("a device that was never seen has %+v", points)
	}
	if points := mustQuery(t, h, "GPU-a", noon(), noon().Add(-time.Hour), time.Second); len(points) != 0 {
		t.Errorf("a range that ends before it begins has %+v", points)
	}
	if points := mustQuery(t, h, "GPU-a", time.Unix(-50, 0), noon().Add(time.Second), 365*24*time.Hour); len(points) != 1 {
		t.Errorf("from before 1970: %+v", points)
	}
	if _, err := h.Query("GPU-a", noon(), noon().Add((MaxPoints+1)*time.Second), time.Second); err == nil || !strings.Contains(err.Error(), "longer step") {
		t.Errorf("too many points: %v", err)
	}
	if err := h.Append("GPU-a", time.Unix(-1, 0), Figures{}); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("before 1970: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Append("GPU-a", noon(), Figures{}); err == nil {
		t.Error("appended after Close")
	}
	if _, err := h.Query("GPU-a", noon(), noon().Add(time.Second), time.Second); err == nil {
		t.Error("read after Close")
	}
}

func TestStepIsRoundedUp(t *testing.T) {
	for in, want := range map[time.Duration]int64{
		-time.Second: 1, 0: 1, time.Millisecond: 1, time.Second: 1, 1500 * time.Millisecond: 2, 59 * time.Second: 59,
		time.Minute: 60, 61 * time.Second: 120, time.Hour: 3600,
	} {
		if got := wholeStep(in); got != want {
			t.Errorf("%v is %d s, want %d", in, got, want)
		}
	}
}

func TestValueThatIsNoNumberIsAbsent(t *testing.T) {
	var f Figures
	for _, value := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300} {
		f.Set(3, 5)
		f.Set(3, value)
		if got, ok := f.Get(3); ok || f != (Figures{}) {
			t.Errorf("%v is %v", value, got)
		}
	}
}

func TestReadersAndWritersDoNotDisturbEachOther(t *testing.T) {
	h, _ := newHistory(t, t.TempDir())
	var wg sync.WaitGroup
	for d := range 3 {
		device := fmt.Sprintf("GPU-%d", d)
		wg.Go(func() {
			for i := range 300 {
				// The figures widen on the way.
				if err := h.Append(device, noon().Add(time.Duration(i)*time.Second), figures(map[Figure]float64{Figure(i / 100): float64(i)})); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 100 {
				for _, step := range []time.Duration{time.Second, time.Minute} {
					points, err := h.Query(device, noon(), noon().Add(time.Hour), step)
					if err != nil {
						t.Error(err)
					}
					for i := 1; i < len(points); i++ {
						if !points[i-1].Time.Before(points[i].Time) {
							t.Errorf("%v comes before %v", points[i-1].Time, points[i].Time)
						}
					}
				}
			}
		})
	}
	wg.Wait()
}
