// How transcripts are read: the format with its corners, and that nothing in one is passed over.

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("Transcripts: how they are read")
struct TranscriptGrammarTests {
    @Test(
        "a command line: words, values, lists",
        arguments: [
            ("status 1", [("1", [])]),
            ("  x  a=b\t ", [("a", ["b"])]),
            ("x a= b", [("a", [""]), ("b", [])]),
            ("x a=(1, 2,3) b", [("a", ["1", "2", "3"]), ("b", [])]),
            ("x a=(f(1,2), g) b", [("a", ["f(1,2)", "g"]), ("b", [])]),
            ("x a=() \"q\"", [("a", [""]), ("\"q\"", [])]),
        ] as [(String, [(String, [String])])])
    func commandLines(line: String, expected: [(String, [String])]) throws {
        #expect(
            try CommandLine(line).arguments
                == expected.map { DirectiveArgument(key: $0.0, values: $0.1) })
    }

    @Test("a command line that can't be parsed", arguments: ["x =1", "x a=(1", "x a=(f(1)"])
    func noCommandLine(line: String) {
        #expect(throws: TranscriptError.self) { try CommandLine(line) }
    }

    @Test("directives with comments, input, empty lines in their output, and brackets")
    func directives() throws {
        let directives = try parseDirectives(
            """
            # a comment
            subtest one

              first a=1 \\
                b \\
                c

            # input, not a comment

            more
            ----
            out
            # output, not a comment

            subtest one/inner
            second
            ----
            ----
            x

            ----
            y
            ----
            ----

            subtest end one/inner
            subtest end
            third
            ----
            """)
        #expect(directives.map(\.command) == ["first", "second", "third"])
        #expect(directives.map(\.line) == [4, 16, 28])
        #expect(directives[0].commandLine.words == ["b", "c"])
        #expect(directives[0].commandLine.values("a") == ["1"])
        #expect(directives[0].input == "# input, not a comment\n\nmore")
        #expect(directives[0].expected == ["out", "# output, not a comment"])
        #expect(directives[1].expected == ["x", "", "----", "y"])
        #expect(directives[2].expected.isEmpty)
        let windows = try parseDirectives("a\r\nin\r\n----\r\nout\r\n\r\nb\r\n----\r\nout\r\n")
        #expect(windows.map(\.expected) == [["out"], ["out"]])
    }

    @Test(
        "a file that breaks the format fails, with the line",
        arguments: [
            ("a\n----\nok\n\nb\nc\n", 5),
            ("a =\n----\nok\n", 1),
            ("a\n----\n----\nx\n----\n", 3),
            ("a\n----\n----\nx\n----\n----\nb\n----\nok\n", 7),
            ("subtest x\na\n----\nok\n", 4),
            ("subtest x\nsubtest y\n", 2),
            ("subtest end\n", 1),
            ("subtest x\n\nsubtest end y\n", 3),
        ])
    func brokenFormat(text: String, line: Int) {
        let run = TranscriptRun(text) { _ in "ok" }
        #expect(run.failure?.line == line)
    }

    @Test("only log lines are left out of the comparison, and \"ok\" stands for them")
    func comparison() {
        func fails(_ expected: String, _ actual: String) -> Bool {
            TranscriptRun("x\n----\n\(expected)\n") { _ in actual }.failure != nil
        }
        #expect(!fails("a\n  INFO b\nc", "a\nc\n"))
        #expect(!fails("DEBUG a\nWARN b", "ok"))
        #expect(fails("ok", "a"))
        #expect(fails("a", "ok"))
        #expect(fails("INFO a\nb", "ok"))
        #expect(fails("a\nb", "a"))
        #expect(fails("a", "a\nb"))
        #expect(fails("INFOa", "ok"))
    }

    @Test(
        "what a command does not take stops the file there",
        arguments: [
            "add-nodes", "add-nodes 1 2", "add-nodes x", "add-nodes 1 voter=(1) index=2",
            "add-nodes 1 voters=(1 2) index=2", "add-nodes 1 voters=(1) index=+2",
            "add-nodes 1 voters=(1) index=2 prevote=yes", "add-nodes 1 election-tick=1",
            "campaign", "campaign 1 2", "campaign 9", "campaign 1 now=true", "campaign x",
            "compact 1", "compact 1 99", "deliver-msgs 1 drop=1", "deliver-msgs 1 from=2",
            "deliver-msgs 1 type=MsgNone", "deliver-msgs x", "forget-leader", "log-level",
            "process-ready 9", "process-ready 1 type=x", "propose 1", "propose 1 a b",
            "propose 1 a=b", "raft-log", "raft-state 1", "send-snapshot 1", "send-snapshot 9 1",
            "set-randomized-election-timeout 1", "set-randomized-election-timeout 1 timeout=0",
            "stabilize 9", "stabilize level=none", "status", "tick 1", "tick 1 x",
            "transfer-leadership from=1", "transfer-leadership from=1 to=9",
            "report-unreachable 1 9", "propose-conf-change 9", "propose-conf-change 1 v1=true",
            "unheard-of", "status 1\ncampaign 9", "status 1\n=x",
        ])
    func loudInteraction(command: String) {
        let interpreter = InteractionInterpreter()
        let run = TranscriptRun(
            """
            add-nodes 1 voters=(1) index=2
            ----
            ok

            # Even where output is switched off.
            log-level none
            ----
            ok

            \(command)
            ----
            ok

            status 1
            ----
            never compared
            """
        ) { try interpreter.run($0) }
        #expect(run.directives == 3)
        #expect(run.failure?.line == 10)
    }

    @Test(
        "the same in the tables",
        arguments: [
            "committed idx", "committed cfg=(1) idx=(0)", "committed cfg=(1) idx=(a)",
            "committed cfg=() idx=()", "committed cfg=(1) cfgj=(zero,2) idx=(1,2)",
            "committed cfg=(1) idx=(1) joint=true", "vote cfg=(1) votes=(x)", "won cfg=(1) idx=(1)",
        ])
    func loudTables(command: String) {
        let quorum = TranscriptRun("\(command)\n----\nok\n") { try QuorumInterpreter.run($0) }
        #expect(quorum.failure?.line == 1)
        for line in ["simple 1", "enter-joint autoleave=maybe", "enter-joint leave=true"] {
            var interpreter = ConfChangeInterpreter()
            let run = TranscriptRun("\(line)\nv1\n----\nok\n") { try interpreter.run($0) }
            #expect(run.failure?.text.contains("can't be run") == true)
        }
    }
}
