// The core against etcd-io/raft's own transcripts: every message, Ready and state line.
//
// The files are not part of this repository. `UKEHI_ETCD_RAFT_DATA` names a folder that holds some of the
// folders `quorum`, `confchange` and `interaction`; without it the suite is reported as skipped, and so
// is each folder that is not there.
//
//   UKEHI_ETCD_RAFT_DATA=… swift test --filter EtcdRaftConformance

import Foundation
import Testing

@testable import UkehiRaft

private let dataFolder = ProcessInfo.processInfo.environment["UKEHI_ETCD_RAFT_DATA"]

private func isPresent(_ folder: String) -> Bool {
    guard let dataFolder else { return false }
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(
        atPath: dataFolder + "/" + folder, isDirectory: &isFolder) && isFolder.boolValue
}

@Suite(
    "EtcdRaftConformance",
    .enabled(if: dataFolder != nil, "UKEHI_ETCD_RAFT_DATA names no folder with the transcripts"))
struct EtcdRaftConformance {
    @Test("there is something to compare with")
    func somethingIsThere() {
        #expect(
            ["quorum", "confchange", "interaction"].contains(where: isPresent),
            "\(dataFolder ?? "") holds none of quorum, confchange and interaction")
    }

    @Test("quorum: commit and vote tables", .enabled(if: isPresent("quorum")))
    func quorum() throws {
        try run("quorum") { { directive in try QuorumInterpreter.run(directive) } }
    }

    @Test(
        "confchange: the algebra of configuration changes", .enabled(if: isPresent("confchange")))
    func confchange() throws {
        try run("confchange") {
            var interpreter = ConfChangeInterpreter()
            return { directive in try interpreter.run(directive) }
        }
    }

    @Test("interaction: transcripts of whole clusters", .enabled(if: isPresent("interaction")))
    func interaction() throws {
        try run("interaction") {
            let interpreter = InteractionInterpreter()
            return { directive in try interpreter.run(directive) }
        }
    }

    /// Runs every file of a folder and the folders in it, each with an interpreter of its own.
    private func run(
        _ folder: String, _ make: () -> (Directive) throws -> String
    ) throws {
        let path = try #require(dataFolder) + "/" + folder
        let files = try transcripts(in: path)
        #expect(!files.isEmpty, "no transcripts in \(path)")
        var directives = 0
        var lines = 0
        var failed = 0
        for file in files {
            let text = try String(contentsOfFile: path + "/" + file, encoding: .utf8)
            let result = TranscriptRun(text, make())
            directives += result.directives
            lines += result.lines
            if let (line, difference) = result.failure {
                failed += 1
                Issue.record("\(folder)/\(file):\(line): \(difference)")
            } else if result.directives == 0 {
                failed += 1
                Issue.record("\(folder)/\(file): no directives")
            }
        }
        print(
            "EtcdRaftConformance \(folder): \(files.count) files run, \(failed) with a difference; "
                + "\(directives) directives, \(lines) lines compared")
    }

    /// Every file, whatever its name ends with, but documents and what editors leave behind.
    private func transcripts(in path: String) throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: path).filter { file in
            var isFolder: ObjCBool = false
            _ = FileManager.default.fileExists(
                atPath: path + "/" + file, isDirectory: &isFolder)
            let parts = file.split(separator: "/")
            guard !isFolder.boolValue, !parts.contains(where: { $0.hasPrefix(".") }),
                let name = parts.last
            else { return false }
            return !name.hasSuffix(".md") && !name.hasSuffix("~") && !name.hasPrefix("#")
        }.sorted()
    }
}
