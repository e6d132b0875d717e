// The scenario files of Scenarios/, run and compared. UKEHI_REWRITE=1 writes what came out into
// the files instead; a file that can't be run is never rewritten.

import Foundation
import Testing

/// The files on disk, found from this file's own place.
enum ScenarioFolder {
    static let url = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "Scenarios")

    /// The names of the scenarios, in order.
    static let names: [String] = {
        let all = try? FileManager.default.contentsOfDirectory(atPath: url.path)
        return (all ?? []).filter { $0.hasSuffix(".txt") }.sorted()
    }()

    static func text(_ name: String) throws -> String {
        try String(contentsOf: url.appending(path: name), encoding: .utf8)
    }
}

@Suite("Scenario files")
struct ScenarioTests {
    private let rewrites = ProcessInfo.processInfo.environment["UKEHI_REWRITE"] == "1"

    @Test("each scenario comes out as written", arguments: ScenarioFolder.names)
    func scenario(name: String) throws {
        let text = try ScenarioFolder.text(name)
        do {
            let file = try ScenarioFile(text)
            let outputs = try Self.run(file)
            if rewrites {
                let rewritten = file.rewritten(outputs)
                guard rewritten != text else { return }
                try rewritten.write(
                    to: ScenarioFolder.url.appending(path: name), atomically: true,
                    encoding: .utf8)
            } else {
                for (block, actual) in zip(file.blocks, outputs) where actual != block.expected {
                    record(Self.difference(block, actual), name, block.directives[0].line)
                }
            }
        } catch let error as ScenarioError {
            record(error.message, name, error.line)
        }
    }

    /// The output of every block, from a fresh start.
    static func run(_ file: ScenarioFile) throws -> [[String]] {
        let runner = ScenarioRunner()
        return try file.blocks.map { try runner.run($0) }
    }

    private func record(_ message: String, _ name: String, _ line: Int) {
        Issue.record(
            "Scenarios/\(name):\(line): \(message)",
            sourceLocation: SourceLocation(
                fileID: "UkehiRaftTests/\(name)",
                filePath: ScenarioFolder.url.appending(path: name).path, line: line, column: 1))
    }

    private static func difference(_ block: ScenarioBlock, _ actual: [String]) -> String {
        let directives = block.directives.map(\.text).joined(separator: "\n")
        return """
            \(directives)
            expected:
            \(block.expected.joined(separator: "\n"))
            actual:
            \(actual.joined(separator: "\n"))
            """
    }
}

@Suite("Scenario reader: mistakes are not results")
struct ScenarioReaderTests {
    private func failure(of text: String) -> ScenarioError? {
        do {
            _ = try ScenarioTests.run(try ScenarioFile(text))
            return nil
        } catch {
            return error as? ScenarioError
        }
    }

    @Test(
        "a typo fails, with its line and what is wrong",
        arguments: [
            ("stabilise", 4, "unknown directive 'stabilise'"),
            ("stabilize loudly", 4, "unknown word 'loudly'"),
            ("deliver form=1", 4, "unknown option 'form='"),
            ("deliver kind=append", 4, "no message is a 'append'"),
            ("deliver from=2", 4, "there is no such message to deliver"),
            ("deliver nth=3", 4, "2 messages match, so there is no nth=3"),
            ("propose 1 x", 4, "unknown word 'x'"),
            ("propose 1", 4, "propose needs \"commands\""),
            ("propose 1 \"x", 4, "no \" closes 'x'"),
            ("campaign 4", 4, "there is no peer 4"),
            ("campaign", 4, "one peer is needed"),
            ("restart 1", 4, "peer 1 is not down"),
            ("crash 1\ncampaign 1", 5, "peer 1 is down"),
            ("write 2", 4, "peer 2 has nothing to write"),
            ("write 1 count=2", 4, "only 1 to write"),
            ("hold from=3", 4, "there is no such message to hold"),
            ("release", 4, "nothing is held"),
            ("partition 4", 4, "there is no peer 4"),
            (
                "inject heartbeat from=1 to=2", 4,
                "inject makes appendEntries or appendEntriesResponse"
            ),
            ("inject appendEntries from=1 to=2 prev=1", 4, "'1' is not index:term"),
            ("compact 1 upTo=1", 4, "1 is not applied"),
            ("progress 1", 4, "1 does not lead"),
            ("change 1", 4, "a change has steps, or says leave"),
            ("change 1 addVoters=4", 4, "unknown step 'addVoters='"),
            ("cluster voters=(1 2 3)", 4, "there is a cluster already"),
            ("tick 1 count=many", 4, "'many' is not a number"),
            ("state\n  more", 5, "state takes no input"),
            ("logs\n  1 terms=(1) commits=1", 5, "unknown option 'commits='"),
        ])
    func typo(directives: String, line: Int, message: String) {
        let text =
            "cluster voters=(1 2 3)\ncampaign 1\n# As good as nothing.\n\(directives)\n----\n"
        let error = failure(of: text)
        #expect(error?.line == line)
        #expect(error?.message == message)
    }

    @Test("a file that is not made of blocks fails")
    func form() {
        #expect(failure(of: "state\n\n----\n")?.message == "an empty line before ----")
        #expect(failure(of: "state\n")?.message == "no ---- after this directive")
        #expect(failure(of: "----\nok\n")?.message == "---- without a directive above it")
        #expect(failure(of: "state\n----\n")?.message == "there is no cluster yet")
        #expect(failure(of: "# Only words.\n")?.message == "there is no directive")
        let twice = "cluster voters=(1) voters=(1 2)\n----\n"
        #expect(failure(of: twice)?.message == "voters is given twice")
        let nobody = "cluster voters=(1) leader=2\n----\n"
        #expect(failure(of: nobody)?.message == "there is no peer 2")
        #expect(failure(of: "  1\nstate\n----\n")?.line == 1)
    }

    @Test("rewriting changes outputs and nothing else, and then all is as written")
    func rewriting() throws {
        let text = """
            # Why.

            # How.
            cluster voters=(1)
            ----

            campaign 1
            # In between.
            stabilize quiet
            ----
            what was wrong
            and longer

            leader
            ----
            """
        let file = try ScenarioFile(text + "\n")
        let rewritten = file.rewritten(try ScenarioTests.run(file))
        let expected = """
            # Why.

            # How.
            cluster voters=(1)
            ----
            ok

            campaign 1
            # In between.
            stabilize quiet
            ----
              1 is candidate, term 1
              1 is leader, term 1
            committed: 1=1

            leader
            ----
            leader: 1 in term 1
            """
        #expect(rewritten == expected + "\n")
        let again = try ScenarioFile(rewritten)
        #expect(again.rewritten(try ScenarioTests.run(again)) == rewritten)
        #expect(try ScenarioTests.run(again) == again.blocks.map(\.expected))
    }
}
