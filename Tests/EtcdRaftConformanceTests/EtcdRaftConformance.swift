// The core against etcd-io/raft's own transcripts: every message, Ready and state line.
//
// The files are not part of this repository. `UKEHI_ETCD_RAFT_DATA` names a folder that holds their
// folders `quorum`, `confchange` and `interaction`; without it the suite is reported as skipped.
//
//   UKEHI_ETCD_RAFT_DATA=… swift test --filter EtcdRaftConformance

import Foundation
import Testing

@testable import UkehiRaft

private let dataFolder = ProcessInfo.processInfo.environment["UKEHI_ETCD_RAFT_DATA"]

@Suite(
    "EtcdRaftConformance",
    .enabled(if: dataFolder != nil, "UKEHI_ETCD_RAFT_DATA names no folder with the transcripts"))
struct EtcdRaftConformance {
    @Test("quorum: commit and vote tables")
    func quorum() throws {
        try run("quorum") { { directive in try QuorumInterpreter.run(directive) } }
    }

    @Test("confchange: the algebra of configuration changes")
    func confchange() throws {
        try run("confchange") {
            var interpreter = ConfChangeInterpreter()
            return { directive in try interpreter.run(directive) }
        }
    }

    @Test("interaction: transcripts of whole clusters")
    func interaction() throws {
        try run("interaction") {
            let interpreter = InteractionInterpreter()
            return { directive in interpreter.run(directive) }
        }
    }

    /// Runs every file of a folder, each with an interpreter of its own. A file's first difference is
    /// reported, since what follows it differs for the same reason.
    private func run(
        _ folder: String, _ make: () -> (Directive) throws -> String
    ) throws {
        let path = try #require(dataFolder) + "/" + folder
        let files = try FileManager.default.contentsOfDirectory(atPath: path)
            .filter { $0.hasSuffix(".txt") }.sorted()
        #expect(!files.isEmpty, "no .txt files in \(path)")
        var directives = 0
        var lines = 0
        var failed = 0
        for file in files {
            let text = try String(contentsOfFile: path + "/" + file, encoding: .utf8)
            let interpret = make()
            for directive in try parseDirectives(text) {
                let actual = try interpret(directive)
                directives += 1
                let expectedLines = comparedLines(directive.expected)
                lines += expectedLines.count
                guard let difference = difference(directive, expectedLines, actual) else {
                    continue
                }
                failed += 1
                Issue.record("\(folder)/\(file):\(directive.line): \(difference)")
                break
            }
        }
        print(
            "EtcdRaftConformance \(folder): \(files.count) files run, \(failed) with a difference; "
                + "\(directives) directives, \(lines) lines compared")
    }

    private func difference(
        _ directive: Directive, _ expected: [String], _ actual: String
    ) -> String? {
        var actualLines = actual.components(separatedBy: "\n")
        if actualLines.last == "" { actualLines.removeLast() }
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
