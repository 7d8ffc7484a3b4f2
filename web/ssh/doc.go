// Package ssh lets people into their instances by SSH, on one port for all of
// them, without an SSH server in the image.
//
// The user name is an instance's name or number; NAME+SESSION names one of its
// terminal sessions. The public key decides whose instance that may be: it is in a
// user's profile, at most in one, and opens the instances of all accounts that the
// user is in, or it is one that the instance was launched with. A name means only
// instances of the user's accounts once the key is in a profile: anybody can launch
// an instance with another's public key, under a name that leads its holder astray,
// so that what others launched with it is entered by its number. There are no
// passwords.
//
// A shell with a terminal is a session like the browser's: it belongs to the
// machine, and goes on when the connection breaks, until its shell ends. Commands,
// sftp and forwarded ports end with their connection. Forwarded connections begin
// inside the instance's network and reach what the instance does.
//
// Who may enter is the scheduler's to say, and is asked again whenever keys,
// members or instances change: a connection that may not stay is closed. The
// package runs nothing itself; cmd starts it.
package ssh
