// House rules that are about text: size of files, words that may not stand there, links that must
// lead somewhere, examples that must be the compiled ones.

import Foundation
import Testing

@Suite("House rules: text")
struct TextRulesTests {
    @Test("no file is over 600 lines: look for the second concept in it")
    func fileLength() throws {
        for file in try SourceTree.swiftFiles() {
            #expect(file.lines.count <= 601, "\(file.path) has \(file.lines.count) lines")
        }
    }

    @Test("no unfinished work without a reason, no shortcut past the type system")
    func words() throws {
        // Assembled, so that this file passes its own rule.
        let unfinished = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]
        let shortcut = "try" + "!"
        for file in try SourceTree.swiftFiles() {
            for (number, line) in file.lines.enumerated() {
                let words = line.split { !$0.isLetter && !$0.isNumber && $0 != "_" }
                for word in words where unfinished.contains(String(word)) {
                    // A reason is what follows in parentheses, as in WORD(why it can wait).
                    #expect(
                        line.contains("\(word)("), "\(file.path):\(number + 1) says \(word)")
                }
                #expect(!line.contains(shortcut), "\(file.path):\(number + 1) says \(shortcut)")
            }
        }
    }

    @Test("nothing names a folder of one machine")
    func machinePaths() throws {
        let roots = ["home", "root", "work", "Users"].map { "/\($0)/" }
        for file in try SourceTree.swiftFiles() + SourceTree.documents() {
            for (number, line) in file.lines.enumerated() {
                for root in roots {
                    // A path that goes on from something else, as `github.com/work/`, is not one.
                    var rest = line[...]
                    while let found = rest.range(of: root) {
                        let before =
                            found.lowerBound > line.startIndex
                            ? line[line.index(before: found.lowerBound)] : " "
                        let continues =
                            before.isLetter || before.isNumber || ".)}_-".contains(before)
                        #expect(continues, "\(file.path):\(number + 1) names \(root)")
                        rest = rest[found.upperBound...]
                    }
                }
            }
        }
    }

    @Test("each claim to be safe without the compiler's word says why")
    func safetyComments() throws {
        let claims = ["@unchecked " + "Sendable", "nonisolated" + "(unsafe)"]
        for file in try SourceTree.files(in: "Sources", endings: [".swift"]) {
            for (number, line) in file.lines.enumerated() {
                let code = line.components(separatedBy: "//")[0]
                guard claims.contains(where: code.contains) else { continue }
                let near = file.lines[max(0, number - 12)..<min(file.lines.count, number + 48)]
                #expect(
                    near.contains { $0.contains("Safety:") },
                    "\(file.path):\(number + 1) needs a comment that begins with Safety:")
            }
        }
    }

    @Test("no test sleeps: wait for the event, with a deadline")
    func noSleep() throws {
        let calls = ["Task.sleep", "usleep(", "nanosleep(", "Thread.sleep", " sleep("]
        // These wait for other processes or for real threads, between two looks at them.
        let waits: Set = ["Polling.swift"]
        for file in try SourceTree.files(in: "Tests", endings: [".swift"])
        where !waits.contains(file.name) && file.name != "TextRules.swift" {
            for (number, line) in file.lines.enumerated() {
                #expect(
                    !calls.contains(where: line.contains), "\(file.path):\(number + 1) sleeps")
            }
        }
    }

    @Test("links between the project's documents lead somewhere")
    func links() throws {
        for file in try SourceTree.documents() {
            let folder = SourceTree.root.appending(path: file.path).deletingLastPathComponent()
            for (number, line) in file.lines.enumerated() {
                for target in relativeLinks(line) {
                    let there = FileManager.default.fileExists(
                        atPath: folder.appending(path: target).path)
                    #expect(there, "\(file.path):\(number + 1) links to \(target)")
                }
            }
        }
    }

    @Test("each Swift example in a document is compiled in Tests/UkehiTests/Documentation")
    func examples() throws {
        let compiled = try SourceTree.files(
            in: "Tests/UkehiTests/Documentation", endings: [".swift"]
        ).map { flattened($0.lines) }
        for file in try SourceTree.documents() {
            for (line, block) in swiftBlocks(file.lines) {
                let example = flattened(block)
                #expect(
                    compiled.contains { $0.contains(example) },
                    "\(file.path):\(line): this example is not compiled by a test")
            }
        }
    }

    /// Targets of `[…](target)` in a line, without anchors; addresses elsewhere are not ours.
    private func relativeLinks(_ line: String) -> [String] {
        line.components(separatedBy: "](").dropFirst().compactMap { part in
            guard let end = part.firstIndex(of: ")") else { return nil }
            let target = part[..<end].split(separator: "#", omittingEmptySubsequences: false)[0]
            return target.isEmpty || target.contains(":") ? nil : String(target)
        }
    }

    /// The code blocks marked `swift`, each with its first line's number.
    private func swiftBlocks(_ lines: [String]) -> [(line: Int, block: [String])] {
        var blocks: [(line: Int, block: [String])] = []
        var open: (line: Int, block: [String])?
        for (number, line) in lines.enumerated() {
            if line.hasPrefix("```") {
                if let block = open {
                    blocks.append(block)
                    open = nil
                } else if line == "```swift" {
                    open = (number + 2, [])
                } else {
                    continue
                }
            } else {
                open?.block.append(line)
            }
        }
        return blocks
    }

    /// Lines without indentation, empty ones and the test's own marks left out.
    private func flattened(_ lines: [String]) -> String {
        lines.map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
            .joined(separator: "\n")
    }
}
