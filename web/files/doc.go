// Package files is what the API and the console share of the files on drives and
// shared filesystems: downloads with ranges, folders as zip streams, uploads by
// the tus protocol (tus.io, version 1.0.0 with creation, creation-with-upload and
// termination), and the sweeping of uploads that nobody goes on with.
//
// It knows who asks from web.CallerOf, opens the volume for them and calls
// agent/volume/files, which does the work and keeps every path inside the volume.
// It checks no key, no cookie and no CSRF token: api and console do, and then give
// it the request.
package files
