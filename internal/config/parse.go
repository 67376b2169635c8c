package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"vswitch/internal/api"
)

// Limits of a file. They keep a hostile one from costing more than a few seconds: the parser recurses as deep as a file nests.
const (
	maxBytes  = 1 << 20
	maxTokens = 1 << 18
	maxDepth  = 32  // of brackets and braces
	maxColumn = 128 // of "-" and "?", which nest once for each column
	maxNodes  = 1e5 // values of all kinds; what an alias stands for counts each time
)

// refuse makes an error that names the place.
func refuse(at *token.Token, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if at == nil || at.Position == nil {
		return api.Errorf(api.CodeInvalid, "%s", text)
	}
	return api.Errorf(api.CodeInvalid, "line %d, column %d: %s", at.Position.Line, at.Position.Column, text)
}

// parse returns the only document of a file; nil when there is nothing in it. Errors are *api.Error with CodeInvalid or
// CodeTooLarge.
func parse(text []byte) (body ast.Node, err error) {
	if len(text) > maxBytes {
		return nil, api.Errorf(api.CodeTooLarge, "the configuration is over %d bytes, which is the limit", maxBytes)
	}
	defer func() { // the parser is not ours: let no text stop the daemon
		if p := recover(); p != nil {
			body, err = nil, api.Errorf(api.CodeInvalid, "the text confuses the YAML parser (%.100v): simplify it", p)
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if err := checkTokens(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, syntax(err)
	}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			return nil, refuse(doc.Body.GetToken(), "a second document begins: a configuration is one")
		}
		body = doc.Body
	}
	return body, nil
}

// syntax gives the parser's complaint our form. Its own text quotes the file, at a cost that grows with the square of its length.
func syntax(err error) error {
	var e yaml.Error
	if errors.As(err, &e) {
		message, _, _ := strings.Cut(e.GetMessage(), "\n")
		return refuse(e.GetToken(), "this is not YAML: %.200s", message)
	}
	return api.Errorf(api.CodeInvalid, "this is not YAML: %.200s", err)
}

// checkTokens refuses what nests too deep for the parser, or is too much.
func checkTokens(tokens token.Tokens) error {
	depth := 0
	for i, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType:
			if t.Position.Column > maxColumn {
				return refuse(t, "this is nested too deep")
			}
		}
		if depth > maxDepth {
			return refuse(t, "brackets are nested more than %d deep", maxDepth)
		}
		if i > maxTokens {
			return refuse(t, "there is more than %d words and signs, which is the limit", maxTokens)
		}
	}
	return nil
}
