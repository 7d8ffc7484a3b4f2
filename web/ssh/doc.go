// Package ssh lets people into their instances by SSH, on one port for all of
// them, without an SSH server in the image.
//
// The user name is an instance's name or number; NAME+SESSION names one of its
// terminal sessions. The public key decides whose instance that may be: it is in a
// user's profile, at most in one, and opens the instances of all accounts that the
// user is in, or it is one that the instance was launched with. There are no
// passwords.
//
// # Whose instance a name means
//
// Public keys are public. Eve can put Ana's into her own profile, or into a launch,
// and call her instance what Ana's is called; then Ana's ssh would lead Ana, and
// what she types or copies, into Eve's. Numbers can't be chosen, so that they
// always count. For names (scheduler, opens.named) it goes by what is known of the
// key:
//
//   - Its user has proved to have the private half (identity.ProveSSHKey). Names mean
//     that user's accounts. Nobody can take the key, and what others launch with it
//     changes nothing. Eve can do nothing but ask Ana to type a number of hers, or to
//     sign a challenge, which names the box and Eve.
//   - It is in a profile without a proof, and nobody else lays claim to it: the honest
//     user who has just pasted it. Names mean that user's accounts. Eve gets no
//     further than that if Ana has never added the key, nor launched with it: then
//     nothing on the box is Ana's by this key, and if she guesses that a name is, it
//     may lead her into Eve's.
//   - It is in a profile without a proof, and another user has tried to add it, or
//     another account has launched with it. One of them is Eve, and the box can't
//     tell which: names are refused, with what to do. So Eve can take the names from
//     an honest user who has proved nothing, but not the numbers, and only until that
//     user proves the key, which takes one command. She can lead nobody astray.
//   - It is in no profile, and one account alone has ever launched with it. Names mean
//     that account. Eve's launch leads Ana astray if nothing was ever launched for Ana
//     with this key. Ana's ssh may offer such a key, of many in her agent, before the
//     one that she has proved: who has several proves all of them, or tells ssh which
//     to use (IdentitiesOnly).
//   - It is in no profile, and several accounts have launched with it, be it long ago:
//     names are refused.
//
// Members of an account are not strangers to each other: each enters all of its
// instances anyway, and could change what is in them.
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
