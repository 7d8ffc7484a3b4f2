// Package telemetry samples all GPUs and MIG devices once a second, gives the
// latest samples to whoever asks, and keeps their figures in a history.
//
// It decides nothing, knows nothing of instances or accounts, and never stops for
// a GPU that hangs or a disk that is full: it says so in the log, once. cmd runs
// one Sampler for each process and waits for it to end; the API and the console
// read Latest, and the history by the figures' names.
package telemetry
