// Package packettest builds frames for tests, checks finished ones with gopacket, and cuts super-frames as the receiving
// kernel will. It shares no code with the parser, setters and checksums of package packet, so that it can judge them.
package packettest
