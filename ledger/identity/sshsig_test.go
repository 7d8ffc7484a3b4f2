package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// signedByHand is what ssh-keygen -Y sign would write, with whatever makes the
// signature.
func signedByHand(t testing.TB, public ssh.PublicKey, namespace, message, hash string, sign func(data []byte) *ssh.Signature) string {
	t.Helper()
	var digest []byte
	if hash == "sha256" {
		sum := sha256.Sum256([]byte(message))
		digest = sum[:]
	} else {
		sum := sha512.Sum512([]byte(message))
		digest = sum[:]
	}
	data := append([]byte(sshsigMagic), ssh.Marshal(sshsigSigned{Namespace: namespace, Hash: hash, Digest: digest})...)
	blob := sshsigBlob{Version: 1, PublicKey: public.Marshal(), Namespace: namespace, Hash: hash, Signature: ssh.Marshal(sign(data))}
	return armour(append([]byte(sshsigMagic), ssh.Marshal(blob)...))
}

func armour(raw []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: sshsigType, Bytes: raw}))
}

// signedBy signs with a key in memory.
func signedBy(t testing.TB, key crypto.Signer, message string) string {
	t.Helper()
	s, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return signedByHand(t, s.PublicKey(), SSHNamespace, message, "sha512", func(data []byte) *ssh.Signature {
		sig, err := s.Sign(rand.Reader, data)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	})
}

func TestWhatSSHKeygenSignsIsVerified(t *testing.T) {
	for kind, args := range map[string][]string{
		"ed25519": {"-t", "ed25519"}, "ecdsa-256": {"-t", "ecdsa", "-b", "256"}, "ecdsa-384": {"-t", "ecdsa", "-b", "384"},
		"ecdsa-521": {"-t", "ecdsa", "-b", "521"}, "rsa": {"-t", "rsa", "-b", "2048"},
	} {
		t.Run(kind, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key")
			if out, err := exec.Command("ssh-keygen", append(args, "-q", "-N", "", "-f", file)...).CombinedOutput(); err != nil {
				t.Fatalf("ssh-keygen: %v: %s", err, out)
			}
			raw, err := os.ReadFile(file + ".pub")
			if err != nil {
				t.Fatal(err)
			}
			public, _, _, _, err := ssh.ParseAuthorizedKey(raw)
			if err != nil {
				t.Fatal(err)
			}
			for _, hash := range []string{"sha256", "sha512"} {
				cmd := exec.Command("ssh-keygen", "-Y", "sign", "-n", SSHNamespace, "-O", "hashalg="+hash, "-f", file)
				cmd.Stdin = strings.NewReader("the text\n")
				sig, err := cmd.Output()
				if err != nil {
					t.Fatalf("sign: %v", err)
				}
				if err := verifySSHSignature(public, SSHNamespace, "the text\n", string(sig)); err != nil {
					t.Errorf("%s: %v", hash, err)
				}
				// As a terminal shows it, and with Windows' line ends.
				if err := verifySSHSignature(public, SSHNamespace, "the text\n", "Signing data on standard input\n  "+strings.ReplaceAll(string(sig), "\n", "\r\n  ")); err != nil {
					t.Errorf("%s, copied: %v", hash, err)
				}
				for why, err := range map[string]error{
					"of another text": verifySSHSignature(public, SSHNamespace, "the text", string(sig)),
					"made for":        verifySSHSignature(public, "file", "the text\n", string(sig)),
					"all that stands": verifySSHSignature(public, SSHNamespace, "the text\n", string(sig[:len(sig)/2])),
				} {
					if err == nil || !strings.Contains(err.Error(), why) {
						t.Errorf("%s: %v, want %q", hash, err, why)
					}
				}
			}
		})
	}
}

func TestASignatureOfAnotherKeyOrASharedHashProvesNothing(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := verifySSHSignature(mine, SSHNamespace, "m", signedBy(t, key, "m")); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	// Eve's signature, with the other's public key written into it.
	forged := signedByHand(t, mine, SSHNamespace, "m", "sha512", func(data []byte) *ssh.Signature {
		return &ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: ed25519.Sign(other, data)}
	})
	// What the key signs to log in somewhere is no proof: it lacks the magic.
	login := signedByHand(t, mine, SSHNamespace, "m", "sha512", func(data []byte) *ssh.Signature {
		return &ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: ed25519.Sign(key, data[len(sshsigMagic):])}
	})
	version := append([]byte(sshsigMagic), ssh.Marshal(sshsigBlob{Version: 2})...)
	hash := append([]byte(sshsigMagic), ssh.Marshal(sshsigBlob{Version: 1, PublicKey: mine.Marshal(), Namespace: SSHNamespace, Hash: "md5"})...)
	for name, c := range map[string]struct{ text, why string }{
		"another's":         {signedBy(t, other, "m"), "another key"},
		"forged":            {forged, "of another text, or damaged"},
		"of a log-in":       {login, "of another text, or damaged"},
		"too new":           {armour(version), "version 2"},
		"hashed weakly":     {armour(hash), "md5"},
		"empty":             {armour(nil), "damaged"},
		"far too long":      {strings.Repeat("x", maxSSHSignatureBytes+1), "bytes"},
		"of something else": {string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: version})), "all that stands"},
	} {
		if err := verifySSHSignature(mine, SSHNamespace, "m", c.text); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q", name, err, c.why)
		}
	}
}

func TestRSAWithSHA1ProvesNothing(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA512} {
		text := signedByHand(t, s.PublicKey(), SSHNamespace, "m", "sha512", func(data []byte) *ssh.Signature {
			sig, err := s.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, data, format)
			if err != nil {
				t.Fatal(err)
			}
			return sig
		})
		err := verifySSHSignature(s.PublicKey(), SSHNamespace, "m", text)
		if good := format == ssh.KeyAlgoRSASHA512; (err == nil) != good {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// A security key signs more than the data: PROTOCOL.u2f of OpenSSH. There is no
// such device here, and this is what it would do.
func TestASecurityKeysSignatureIsVerifiedWhenItWasTouched(t *testing.T) {
	const application = "ssh:"
	edPublic, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	edBlob := ssh.Marshal(struct {
		Type, Key, Application string
	}{ssh.KeyAlgoSKED25519, string(edPublic), application})
	ecBlob := ssh.Marshal(struct {
		Type, Curve, Key, Application string
	}{ssh.KeyAlgoSKECDSA256, "nistp256", string(point), application})
	sign := map[string]func(data []byte) []byte{
		ssh.KeyAlgoSKED25519: func(data []byte) []byte { return ed25519.Sign(ed, data) },
		ssh.KeyAlgoSKECDSA256: func(data []byte) []byte {
			sum := sha256.Sum256(data)
			r, s, err := ecdsa.Sign(rand.Reader, ec, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return ssh.Marshal(struct{ R, S []byte }{mpint(r.Bytes()), mpint(s.Bytes())})
		},
	}
	for kind, blob := range map[string][]byte{ssh.KeyAlgoSKED25519: edBlob, ssh.KeyAlgoSKECDSA256: ecBlob} {
		public, err := ssh.ParsePublicKey(blob)
		if err != nil {
			t.Fatal(err)
		}
		for _, touched := range []byte{1, 0} {
			text := signedByHand(t, public, SSHNamespace, "m", "sha512", func(data []byte) *ssh.Signature {
				app, msg := sha256.Sum256([]byte(application)), sha256.Sum256(data)
				rest := binary.BigEndian.AppendUint32([]byte{touched}, 7)
				return &ssh.Signature{Format: kind, Blob: sign[kind](bytes.Join([][]byte{app[:], rest, msg[:]}, nil)), Rest: rest}
			})
			if err := verifySSHSignature(public, SSHNamespace, "m", text); (err == nil) != (touched == 1) {
				t.Errorf("%s, touched %d: %v", kind, touched, err)
			}
		}
	}
}

// mpint is a positive number as SSH writes it.
func mpint(b []byte) []byte {
	if len(b) > 0 && b[0] >= 0x80 {
		return append([]byte{0}, b...)
	}
	return b
}

func FuzzNoSignatureThatWasChangedIsTaken(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	good := signedBy(f, key, "m")
	block, _ := pem.Decode([]byte(good))
	f.Add(good)
	f.Add("-----BEGIN SSH SIGNATURE-----\n\n-----END SSH SIGNATURE-----")
	for _, n := range []int{6, 10, 40, 90, len(block.Bytes) - 1} {
		raw := bytes.Clone(block.Bytes)
		raw[n] ^= 1
		f.Add(armour(raw))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if verifySSHSignature(public, SSHNamespace, "m", text) != nil {
			return
		}
		blob, err := parseSSHSignature(text)
		if err != nil || !bytes.Contains(block.Bytes, blob.Signature) {
			t.Errorf("taken: %q, %v", text, err)
		}
	})
}
