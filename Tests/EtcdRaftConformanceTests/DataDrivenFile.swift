// The format of the reference files: directives with their expected output.
//
//   # comment
//   command arg key=value key=(v1,v2)        a trailing backslash goes on in the next line
//   input lines
//   ----
//   expected output, up to an empty line; or between "----" twice and "----" twice if it has some
//

import Foundation

/// One argument of a directive: a bare word has no values.
struct DirectiveArgument {
    var key: String
    var values: [String]
}

/// One directive of a file.
struct Directive {
    var command: String
    var arguments: [DirectiveArgument]
    /// Lines between the directive and `----`.
    var input: String
    var expected: [String]
    /// Where it stands, counted from one.
    var line: Int

    /// The arguments without values, which name nodes.
    var words: [String] { arguments.filter { $0.values.isEmpty }.map(\.key) }

    func values(_ key: String) -> [String] {
        arguments.filter { $0.key == key }.flatMap(\.values)
    }
}

/// A file of directives could not be read.
struct DataDrivenError: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// The directives of `text`, in order.
func parseDirectives(_ text: String) throws -> [Directive] {
    var lines = text.components(separatedBy: "\n").map {
        $0.hasSuffix("\r") ? String($0.dropLast()) : $0
    }
    if lines.last == "" { lines.removeLast() }
    var directives: [Directive] = []
    var at = 0
    while at < lines.count {
        let start = at
        var line = lines[at].trimmingCharacters(in: .whitespaces)
        at += 1
        if line.isEmpty || line.hasPrefix("#") { continue }
        while line.hasSuffix("\\"), at < lines.count {
            line =
                line.dropLast().trimmingCharacters(in: .whitespaces) + " "
                + lines[at].trimmingCharacters(in: .whitespaces)
            at += 1
        }
        var input: [String] = []
        while at < lines.count, lines[at] != "----" {
            input.append(lines[at])
            at += 1
        }
        guard at < lines.count else {
            throw DataDrivenError("line \(start + 1): no ---- after a directive")
        }
        at += 1
        var expected: [String] = []
        if at < lines.count, lines[at] == "----" {
            at += 1
            while at + 1 < lines.count, !(lines[at] == "----" && lines[at + 1] == "----") {
                expected.append(lines[at])
                at += 1
            }
            at += 2
        } else {
            while at < lines.count, !lines[at].trimmingCharacters(in: .whitespaces).isEmpty {
                expected.append(lines[at])
                at += 1
            }
        }
        let (command, arguments) = try parseDirectiveLine(line)
        directives.append(
            Directive(
                command: command, arguments: arguments, input: input.joined(separator: "\n"),
                expected: expected, line: start + 1))
    }
    return directives
}

/// A directive's command and arguments. A value in parentheses is a list.
func parseDirectiveLine(_ line: String) throws -> (String, [DirectiveArgument]) {
    var fields: [String] = []
    var field = ""
    var depth = 0
    for character in line {
        if character == "(" { depth += 1 }
        if character == ")" { depth -= 1 }
        if character == " " || character == "\t", depth == 0 {
            if !field.isEmpty { fields.append(field) }
            field = ""
        } else {
            field.append(character)
        }
    }
    if !field.isEmpty { fields.append(field) }
    guard depth == 0, let command = fields.first else {
        throw DataDrivenError("unbalanced parentheses in \(line)")
    }
    let arguments = fields.dropFirst().map { field -> DirectiveArgument in
        guard let equals = field.firstIndex(of: "=") else {
            return DirectiveArgument(key: field, values: [])
        }
        let key = String(field[..<equals])
        let value = String(field[field.index(after: equals)...])
        guard value.hasPrefix("("), value.hasSuffix(")") else {
            return DirectiveArgument(key: key, values: [value])
        }
        let list = value.dropFirst().dropLast()
            .split(whereSeparator: { $0 == "," || $0 == " " })
            .map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { !$0.isEmpty }
        return DirectiveArgument(key: key, values: list)
    }
    return (command, arguments)
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
