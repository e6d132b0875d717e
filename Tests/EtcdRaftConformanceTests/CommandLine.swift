// One line of a transcript: a command with its arguments. Each command says what it takes; whatever else
// stands there is an error, so that no option is passed over.

import Foundation

/// One argument: a bare word has no values.
struct DirectiveArgument: Equatable {
    var key: String
    var values: [String]
}

/// A command and its arguments.
struct CommandLine: Equatable {
    var command: String
    var arguments: [DirectiveArgument] = []

    /// Reads a line: words, `key=value` and `key=(v1, v2)`, where values may hold parentheses of their
    /// own. An empty line has an empty command.
    init(_ line: String) throws(TranscriptError) {
        var rest = Substring(line.trimmingCharacters(in: .whitespaces))
        func take(until stops: String) -> String {
            let end = rest.firstIndex { stops.contains($0) } ?? rest.endIndex
            defer { rest = rest[end...] }
            return String(rest[..<end])
        }
        func skipSpace() { rest = rest.drop { $0.isWhitespace } }

        command = take(until: " ")
        skipSpace()
        while !rest.isEmpty {
            var argument = DirectiveArgument(key: take(until: " ="), values: [])
            guard !argument.key.isEmpty else {
                throw TranscriptError("cannot parse \(line) from \(rest) on")
            }
            if rest.first == "=" {
                rest = rest.dropFirst()
                if rest.first == "(" {
                    argument.values = try Self.takeList(&rest, of: line)
                } else {
                    argument.values = [take(until: " ")]
                }
            }
            arguments.append(argument)
            skipSpace()
        }
    }

    private static func takeList(
        _ rest: inout Substring, of line: String
    ) throws(TranscriptError) -> [String] {
        var values: [String] = []
        var value = ""
        var depth = 0
        for place in rest.indices {
            switch rest[place] {
            case "(":
                depth += 1
                if depth > 1 { value.append("(") }
            case ")":
                depth -= 1
                if depth == 0 {
                    rest = rest[rest.index(after: place)...]
                    return values + [value]
                }
                value.append(")")
            case "," where depth == 1:
                values.append(value)
                value = ""
            case let other where value.isEmpty && !values.isEmpty && other.isWhitespace:
                break
            case let other:
                value.append(other)
            }
        }
        throw TranscriptError("unbalanced parentheses in \(line)")
    }

    // MARK: What a command takes

    /// The arguments without values, which name nodes.
    var words: [String] { arguments.filter { $0.values.isEmpty }.map(\.key) }

    /// Throws unless there are as many words as `count` says, and no options but `options`.
    func takes(
        words count: ClosedRange<Int>, options: Set<String> = []
    ) throws(TranscriptError) {
        guard count.contains(words.count) else {
            let wanted =
                count.lowerBound == count.upperBound
                ? "\(count.lowerBound)" : "\(count.lowerBound) or more"
            throw TranscriptError("\(command) takes \(wanted) words, not \(words.count)")
        }
        for argument in arguments
        where !argument.values.isEmpty && !options.contains(argument.key) {
            throw TranscriptError("\(command) has no option \(argument.key)")
        }
    }

    /// Every value of the options called `key`.
    func values(_ key: String) -> [String] {
        arguments.filter { $0.key == key }.flatMap(\.values)
    }

    /// The one value of the option `key`.
    func number(_ key: String) throws(TranscriptError) -> UInt64 {
        guard let argument = arguments.first(where: { $0.key == key }), argument.values.count == 1
        else { throw TranscriptError("\(command) takes one \(key)=number") }
        return try Self.number(argument.values[0])
    }

    /// The words as numbers of nodes.
    func ids() throws(TranscriptError) -> [UInt64] {
        var ids: [UInt64] = []
        for word in words { ids.append(try Self.number(word)) }
        return ids
    }

    static func number(_ text: String) throws(TranscriptError) -> UInt64 {
        // `UInt64.init` takes a sign too, which the reference does not.
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt64(text)
        else { throw TranscriptError("no number: \(text)") }
        return number
    }

    static func isTrue(_ text: String) throws(TranscriptError) -> Bool {
        guard let truth = parseBool(text) else { throw TranscriptError("no boolean: \(text)") }
        return truth
    }

    /// A truth value as Go reads it.
    static func parseBool(_ text: String) -> Bool? {
        switch text {
        case "1", "t", "T", "true", "TRUE", "True": true
        case "0", "f", "F", "false", "FALSE", "False": false
        default: nil
        }
    }
}
