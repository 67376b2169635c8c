// Package flowspec writes frames in words, in the grammar of `vsctl trace`: Parse reads such a text, Build makes the frame, String and
// MatchText write the text.
package flowspec
