// A scenario file: what is done to a group of cores, and what is seen of it.
//
//   # what is shown, and the claim it belongs to
//   directive words key=value key=(a b) "text"
//     input of the directive above, indented
//   ----
//   expected output, up to an empty line
//
// Several directives may share one output. What they mean is in ScenarioRunner.swift.

import Foundation

/// A scenario that can't be read or run: always a mistake in the file, never a result.
struct ScenarioError: Error, CustomStringConvertible {
    var line: Int
    var message: String
    var description: String { "line \(line): \(message)" }
}

/// One directive line and its input.
struct ScenarioDirective {
    var line: Int
    var text: String
    var input: [(line: Int, text: String)] = []

    /// The word it begins with.
    var name: String { String(text.prefix { $0 != " " }) }
}

/// Directives that share an output.
struct ScenarioBlock {
    var directives: [ScenarioDirective]
    var expected: [String]
    /// Where the expected output stands in ``ScenarioFile/lines``.
    var expectedRange: Range<Int>
}

/// A scenario file, read.
struct ScenarioFile {
    var lines: [String]
    var blocks: [ScenarioBlock] = []

    /// The comment lines that the file begins with, without their marks.
    var heading: [String] {
        lines.prefix { $0.hasPrefix("#") }.map { line in
            line.dropFirst().trimmingCharacters(in: .whitespaces)
        }
    }

    init(_ text: String) throws(ScenarioError) {
        lines = text.components(separatedBy: "\n")
        if lines.last == "" { lines.removeLast() }
        var at = 0
        while at < lines.count {
            if lines[at].isEmpty || lines[at].hasPrefix("#") {
                at += 1
            } else {
                blocks.append(try block(from: &at))
            }
        }
        if blocks.isEmpty { throw ScenarioError(line: 1, message: "there is no directive") }
    }

    private func block(from at: inout Int) throws(ScenarioError) -> ScenarioBlock {
        let start = at
        var directives: [ScenarioDirective] = []
        while at < lines.count, lines[at] != "----" {
            let line = lines[at]
            at += 1
            if line.hasPrefix("#") { continue }
            guard !line.allSatisfy({ $0 == " " }) else {
                throw ScenarioError(line: at, message: "an empty line before ----")
            }
            guard line.hasPrefix(" ") else {
                directives.append(ScenarioDirective(line: at, text: line))
                continue
            }
            guard !directives.isEmpty else {
                throw ScenarioError(line: at, message: "input without a directive above it")
            }
            let text = line.trimmingCharacters(in: .whitespaces)
            directives[directives.count - 1].input.append((at, text))
        }
        guard at < lines.count else {
            throw ScenarioError(line: start + 1, message: "no ---- after this directive")
        }
        guard !directives.isEmpty else {
            throw ScenarioError(line: at + 1, message: "---- without a directive above it")
        }
        at += 1
        let first = at
        while at < lines.count, !lines[at].isEmpty { at += 1 }
        return ScenarioBlock(
            directives: directives, expected: Array(lines[first..<at]), expectedRange: first..<at)
    }

    /// The file's text with other outputs, one for each block.
    func rewritten(_ outputs: [[String]]) -> String {
        var text: [String] = []
        var next = 0
        for (block, output) in zip(blocks, outputs) {
            text += lines[next..<block.expectedRange.lowerBound]
            text += output
            next = block.expectedRange.upperBound
        }
        text += lines[next...]
        return text.joined(separator: "\n") + "\n"
    }
}

/// The words of one line, taken one by one. What is left at the end is a mistake.
struct ScenarioWords {
    private enum Word {
        case bare(String)
        case text(String)
        case list([String])
        case option(String, [String])
    }
    let line: Int
    private var words: [Word] = []

    /// - Parameter skipsName: The first word is the directive's name.
    init(_ text: String, line: Int, skipsName: Bool = true) throws(ScenarioError) {
        self.line = line
        var rest = Substring(text)
        if skipsName { rest = rest.drop { $0 != " " } }
        while true {
            rest = rest.drop { $0 == " " }
            guard let first = rest.first else { return }
            if first == "\"" {
                words.append(.text(try Self.take(&rest, until: "\"", line: line)))
            } else if first == "(" {
                words.append(.list(Self.items(try Self.take(&rest, until: ")", line: line))))
            } else {
                let key = String(rest.prefix { $0 != " " && $0 != "=" })
                rest = rest.dropFirst(key.count)
                guard rest.first == "=" else {
                    words.append(.bare(key))
                    continue
                }
                rest = rest.dropFirst()
                if rest.first == "(" {
                    let value = try Self.take(&rest, until: ")", line: line)
                    words.append(.option(key, Self.items(value)))
                } else {
                    let value = rest.prefix { $0 != " " }
                    rest = rest.dropFirst(value.count)
                    words.append(.option(key, [String(value)]))
                }
            }
            guard rest.isEmpty || rest.first == " " else {
                throw ScenarioError(line: line, message: "a space is missing before '\(rest)'")
            }
        }
    }

    private static func take(
        _ rest: inout Substring, until end: Character, line: Int
    ) throws(ScenarioError) -> String {
        let value = rest.dropFirst().prefix { $0 != end }
        rest = rest.dropFirst(value.count + 1)
        guard rest.first == end else {
            throw ScenarioError(line: line, message: "no \(end) closes '\(value)'")
        }
        rest = rest.dropFirst()
        return String(value)
    }

    private static func items(_ value: String) -> [String] {
        value.split(separator: " ").map(String.init)
    }

    func failure(_ message: String) -> ScenarioError { ScenarioError(line: line, message: message) }

    func number(_ text: String) throws(ScenarioError) -> UInt64 {
        guard let number = UInt64(text) else { throw failure("'\(text)' is not a number") }
        return number
    }

    // MARK: Taking

    /// Every bare number.
    mutating func numbers() throws(ScenarioError) -> [UInt64] {
        var numbers: [UInt64] = []
        var left: [Word] = []
        for word in words {
            if case .bare(let text) = word, let number = UInt64(text) {
                numbers.append(number)
            } else {
                left.append(word)
            }
        }
        words = left
        return numbers
    }

    /// The one bare number.
    mutating func onlyNumber(_ meaning: String) throws(ScenarioError) -> UInt64 {
        let numbers = try numbers()
        guard numbers.count == 1 else { throw failure("one \(meaning) is needed") }
        return numbers[0]
    }

    /// Every quoted text.
    mutating func texts() -> [String] {
        var texts: [String] = []
        words.removeAll { word in
            guard case .text(let text) = word else { return false }
            texts.append(text)
            return true
        }
        return texts
    }

    /// Every list in parentheses that stands by itself, of numbers.
    mutating func lists() throws(ScenarioError) -> [[UInt64]] {
        var lists: [[UInt64]] = []
        var left: [Word] = []
        for word in words {
            if case .list(let items) = word {
                var list: [UInt64] = []
                for item in items { list.append(try number(item)) }
                lists.append(list)
            } else {
                left.append(word)
            }
        }
        words = left
        return lists
    }

    /// Whether a bare word is there.
    mutating func flag(_ name: String) -> Bool {
        let count = words.count
        words.removeAll { word in
            if case .bare(let text) = word { text == name } else { false }
        }
        return words.count < count
    }

    /// The values of an option; nil when it is not given.
    mutating func values(_ key: String) throws(ScenarioError) -> [String]? {
        var found: [String]?
        var left: [Word] = []
        for word in words {
            if case .option(key, let values) = word {
                guard found == nil else { throw failure("\(key) is given twice") }
                found = values
            } else {
                left.append(word)
            }
        }
        words = left
        return found
    }

    mutating func value(_ key: String) throws(ScenarioError) -> String? {
        guard let values = try values(key) else { return nil }
        guard values.count == 1, !values[0].isEmpty else { throw failure("\(key) has one value") }
        return values[0]
    }

    mutating func numberValue(_ key: String) throws(ScenarioError) -> UInt64? {
        guard let value = try value(key) else { return nil }
        return try number(value)
    }

    mutating func numberValues(_ key: String) throws(ScenarioError) -> [UInt64]? {
        guard let values = try values(key) else { return nil }
        var numbers: [UInt64] = []
        for value in values { numbers.append(try number(value)) }
        return numbers
    }

    /// Every option left, in order, for directives whose order counts.
    mutating func options() -> [(key: String, values: [String])] {
        var options: [(key: String, values: [String])] = []
        words.removeAll { word in
            guard case .option(let key, let values) = word else { return false }
            options.append((key, values))
            return true
        }
        return options
    }

    /// Throws unless every word was taken.
    func finish() throws(ScenarioError) {
        switch words.first {
        case nil: return
        case .bare(let text): throw failure("unknown word '\(text)'")
        case .text(let text): throw failure("unknown text \"\(text)\"")
        case .list(let items): throw failure("unknown list (\(items.joined(separator: " ")))")
        case .option(let key, _): throw failure("unknown option '\(key)='")
        }
    }
}
