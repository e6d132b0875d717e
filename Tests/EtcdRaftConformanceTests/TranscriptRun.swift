// Runs one transcript and finds where it first differs.

import Foundation

/// What came of one transcript.
struct TranscriptRun {
    private(set) var directives = 0
    private(set) var lines = 0
    /// The first difference; what follows it differs for the same reason, so that it is not run.
    private(set) var failure: (line: Int, text: String)?

    /// Runs the directives of `text` in order.
    init(_ text: String, _ interpret: (Directive) throws -> String) {
        do {
            for directive in try parseDirectives(text) {
                directives += 1
                let actual: String
                do {
                    actual = try interpret(directive)
                } catch {
                    failure = (directive.line, "`\(directive.command)` can't be run: \(error)")
                    return
                }
                lines += comparedLines(directive.expected).count
                if let difference = difference(directive, actual) {
                    failure = (directive.line, difference)
                    return
                }
            }
        } catch {
            failure = (error.line ?? 0, error.description)
        }
    }

    private func difference(_ directive: Directive, _ actual: String) -> String? {
        var actualLines = actual.components(separatedBy: "\n")
        if actualLines.last == "" { actualLines.removeLast() }
        let expected = comparedLines(directive.expected)
        // The reference wrote a log line only; we write none, and say so.
        if expected.isEmpty, !directive.expected.isEmpty, actualLines == ["ok"] { return nil }
        let compared = comparedLines(actualLines)
        if expected == compared { return nil }
        let place =
            zip(expected, compared).enumerated().first { $0.element.0 != $0.element.1 }?
            .offset ?? min(expected.count, compared.count)
        let wanted = place < expected.count ? expected[place] : "<end>"
        let got = place < compared.count ? compared[place] : "<end>"
        return """
            `\(directive.command)`, line \(place + 1) of its output
              expected: \(wanted)
              actual:   \(got)
            whole output:
            \(actual)
            """
    }
}

/// What is compared of an output: every line but those that only a log writes.
func comparedLines(_ lines: [String]) -> [String] {
    lines.filter { line in
        let trimmed = line.trimmingCharacters(in: .whitespaces)
        return !["INFO ", "DEBUG ", "WARN ", "ERROR ", "FATAL "].contains {
            trimmed.hasPrefix($0)
        }
    }
}
