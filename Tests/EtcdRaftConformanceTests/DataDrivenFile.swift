// The format of the reference files: directives with their expected output.
//
//   # comment                               only between directives
//   command arg key=value key=(v1, v2)      a trailing backslash goes on in the next line
//   input lines
//   ----
//   expected output, up to an empty line; or between "----" twice and "----" twice if it has some
//   subtest NAME … subtest end [NAME]       brackets, without input and output
//
// Whatever does not fit is an error with its line: a directive that was not understood was not compared.
// One command line is read in CommandLine.swift.

import Foundation

/// A transcript can't be run as it stands: it breaks the format, or asks for what nobody knows. The
/// reference would stop there too.
struct TranscriptError: Error, CustomStringConvertible {
    var description: String
    /// Counted from one; nil until known.
    var line: Int?

    init(_ description: String, line: Int? = nil) {
        self.description = description
        self.line = line
    }
}

/// One directive of a file.
struct Directive {
    var commandLine: CommandLine
    /// Lines between the directive and `----`.
    var input: String
    var expected: [String]
    /// Where it stands, counted from one.
    var line: Int

    var command: String { commandLine.command }
}

/// The directives of `text`, in order.
func parseDirectives(_ text: String) throws(TranscriptError) -> [Directive] {
    var reader = DirectiveReader(text)
    var directives: [Directive] = []
    while let directive = try reader.next() { directives.append(directive) }
    return directives
}

/// Reads one directive after the other.
private struct DirectiveReader {
    private let lines: [String]
    private var at = 0
    /// The full names of the subtests we are in.
    private var subtests: [String] = []

    init(_ text: String) {
        // By bytes: to a string, "\r\n" is one character that is neither.
        var lines = text.utf8.split(
            separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false
        ).map { line in
            String(
                decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
        }
        if lines.last == "" { lines.removeLast() }
        self.lines = lines
    }

    private mutating func nextLine() -> String? {
        guard at < lines.count else { return nil }
        at += 1
        return lines[at - 1]
    }

    mutating func next() throws(TranscriptError) -> Directive? {
        while var line = nextLine() {
            let start = at
            line = line.trimmingCharacters(in: .whitespaces)
            if line.isEmpty || line.hasPrefix("#") { continue }
            while line.hasSuffix("\\"), let more = nextLine() {
                line = line.dropLast() + " " + more.trimmingCharacters(in: .whitespaces)
            }
            let commandLine: CommandLine
            do {
                commandLine = try CommandLine(line)
            } catch {
                throw TranscriptError(error.description, line: start)
            }
            if commandLine.command == "subtest" {
                try bracket(commandLine, line: start)
                continue
            }
            let input = try readInput(of: start)
            return Directive(
                commandLine: commandLine, input: input, expected: try readExpected(),
                line: start)
        }
        if let open = subtests.last {
            throw TranscriptError("subtest \(open) is never ended", line: lines.count)
        }
        return nil
    }

    private mutating func bracket(
        _ commandLine: CommandLine, line: Int
    ) throws(TranscriptError) {
        let words = commandLine.words
        guard words.count == commandLine.arguments.count, let first = words.first else {
            throw TranscriptError("subtest takes a name, or end", line: line)
        }
        if first == "end" {
            guard words.count <= 2, let open = subtests.popLast() else {
                throw TranscriptError("subtest end without a start", line: line)
            }
            if words.count == 2, words[1] != open {
                throw TranscriptError("subtest end \(words[1]) ends \(open)", line: line)
            }
            return
        }
        guard words.count == 1, subtests.last.map({ first.hasPrefix($0 + "/") }) ?? true else {
            throw TranscriptError(
                "subtest takes one name, which starts with that of the subtest around it",
                line: line)
        }
        subtests.append(first)
    }

    private mutating func readInput(of start: Int) throws(TranscriptError) -> String {
        var input: [String] = []
        while let line = nextLine() {
            if line == "----" {
                return input.joined(separator: "\n")
                    .trimmingCharacters(in: .whitespacesAndNewlines)
            }
            input.append(line)
        }
        throw TranscriptError("no ---- after this directive", line: start)
    }

    private mutating func readExpected() throws(TranscriptError) -> [String] {
        guard let first = nextLine() else { return [] }
        return first == "----" ? try readBracketedExpected() : readPlainExpected(first)
    }

    private mutating func readPlainExpected(_ first: String) -> [String] {
        var expected: [String] = []
        var line: String? = first
        while let text = line, !text.trimmingCharacters(in: .whitespaces).isEmpty {
            expected.append(text)
            line = nextLine()
        }
        return expected
    }

    private mutating func readBracketedExpected() throws(TranscriptError) -> [String] {
        let start = at
        var expected: [String] = []
        while let line = nextLine() {
            guard line == "----" else {
                expected.append(line)
                continue
            }
            guard let second = nextLine() else { break }
            guard second == "----" else {
                expected += [line, second]
                continue
            }
            // What follows would be neither output nor a directive to whoever reads the file.
            if let after = nextLine(), !after.isEmpty {
                throw TranscriptError("no empty line after the output's end", line: at)
            }
            return expected
        }
        throw TranscriptError("the output that starts here is never ended", line: start)
    }
}
