package main

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// fieldFlags are the flags that say what a field of the API says, where the flag's
// name is not simply the field's with hyphens. A command has one of them.
var fieldFlags = map[string][]string{
	"estimated_duration_hours": {"hours"},
	"gpu_count":                {"gpus"},
	"service_port":             {"service-port", "port"},
	"service_public":           {"service-public", "public"},
	"drives":                   {"drive"},
	"shared_filesystems":       {"filesystem"},
	"ssh_public_key":           {"ssh-key"},
	"size_gb":                  {"size"},
	"monthly_cap":              {"monthly-cap"},
}

// fieldWords are fields that no flag stands for.
var fieldWords = map[string]string{
	"command":         "the command behind --",
	"Upload-Length":   "the file",
	"Upload-Metadata": "the file",
	"Upload-Offset":   "the upload",
	"Idempotency-Key": "--key",
	"Authorization":   "the API key",
}

// apiCalls are the commands that do what a message of the API advises to ask it for.
var apiCalls = strings.NewReplacer(
	"GET /v1/gpu-instances", "`ecolink instance ls`",
	"GET /v1/gpus", "`ecolink gpus`",
	"GET /v1/drives", "`ecolink drive ls`",
	"GET /v1/shared-filesystems", "`ecolink filesystem ls`",
	"GET /v1/users/me/ssh-keys", "`ecolink ssh-key ls`",
	"GET /v1/api-keys", "`ecolink key ls`",
	"GET /v1/registry-credentials", "`ecolink registry ls`",
	"GET /v1/images", "`ecolink images`",
)

// terminalsCall is one that names an instance.
var terminalsCall = regexp.MustCompile(`GET /v1/gpu-instances/(\d+)/terminals`)

// fieldName is a field's name as it stands in a message: one with an underscore, or
// one of a list. A single plain word may well be just that.
var fieldName = regexp.MustCompile(`\b(?:drives|shared_filesystems)\[\d+\](?:\.\w+)?|\b[a-z]+(?:_[a-z]+)+\b`)

// inOwnWords has an error of the API speak of the command's flags, and of the
// arguments as they were typed, where the API speaks of its fields. Programs get those
// by -o json.
func inOwnWords(cmd *cobra.Command, args []string, err error) error {
	var refused *apiError
	if !errors.As(err, &refused) || refused.Status >= 500 {
		return err
	}
	param := refused.Param
	if param != "" {
		if n, _ := argumentFor(cmd, param); n >= 0 {
			refused.Message, refused.Param = aboutArgument(args, n, param, refused.Message), ""
		} else if own := ownName(cmd, param); own != "" {
			refused.Message = strings.TrimPrefix(strings.TrimPrefix(refused.Message, param+": "), param+" ")
			refused.Param = own
		} else if strings.ContainsAny(param, "_[-.") { // a name of the API's alone
			refused.Param = ""
		}
	}
	refused.Message = fieldName.ReplaceAllStringFunc(refused.Message, func(name string) string {
		if n, word := argumentFor(cmd, name); n >= 0 {
			return "the " + strings.ReplaceAll(strings.ToLower(word), "_", " ")
		}
		if own := ownName(cmd, name); own != "" {
			return own
		}
		return name
	})
	refused.Message = apiCalls.Replace(terminalsCall.ReplaceAllString(refused.Message, "`ecolink instance terminals $1`"))
	return err
}

// argumentFor finds the argument that is a field of the API, by its place among those
// that must be there, and its word in the usage line; -1 when there is none.
func argumentFor(cmd *cobra.Command, field string) (n int, word string) {
	needed, _ := words(cmd.Use)
	for n, word := range needed {
		word, _, _ = strings.Cut(word, "|") // AMOUNT|none
		if strings.EqualFold(word, field) || fieldIsWord(field, word) {
			return n, word
		}
	}
	return -1, ""
}

// aboutArgument has a message about the nth argument begin with it as it was typed,
// unless that stands in the message already or is standard input.
func aboutArgument(args []string, n int, field, message string) string {
	about := strings.TrimPrefix(message, field+": ")
	if n >= len(args) || args[n] == "-" || strings.Contains(about, strconv.Quote(args[n])) {
		return about
	}
	if rest, isSubject := strings.CutPrefix(message, field+" "); isSubject {
		return printable(args[n]) + " " + rest
	}
	return printable(args[n]) + ": " + about
}

// ownName is what the command calls a field of the API with a flag; "" when it has no
// name for it.
func ownName(cmd *cobra.Command, field string) string {
	if words, ok := fieldWords[field]; ok {
		return words
	}
	list, rest, isList := strings.Cut(field, "[")
	names := fieldFlags[list]
	if names == nil {
		names = []string{strings.ReplaceAll(list, "_", "-")}
	}
	for _, name := range names {
		if cmd.Flags().Lookup(name) == nil {
			continue
		}
		if n, err := strconv.Atoi(rest[:max(0, strings.Index(rest, "]"))]); isList && err == nil && n > 0 {
			return ordinal(n+1) + " --" + name
		}
		return "--" + name
	}
	return ""
}

// fieldIsWord tells whether an argument is the field under another name: the cap in
// `key cap KEY AMOUNT`.
func fieldIsWord(field, word string) bool {
	return field == "session" && word == "NAME" || field == "monthly_cap" && word == "AMOUNT"
}

// ordinal writes which one of several.
func ordinal(n int) string {
	switch {
	case n%10 == 1 && n%100 != 11:
		return strconv.Itoa(n) + "st"
	case n%10 == 2 && n%100 != 12:
		return strconv.Itoa(n) + "nd"
	case n%10 == 3 && n%100 != 13:
		return strconv.Itoa(n) + "rd"
	default:
		return strconv.Itoa(n) + "th"
	}
}
