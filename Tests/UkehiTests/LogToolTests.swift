import Foundation
import Testing
import Ukehi
import _UkehiTestSupport

/// `ukehi wal` on directories that nodes made.
@Suite("Command line: the log's tools", .prompt, .timeLimit(.minutes(2)))
struct LogToolTests {
    private func withLog(_ body: (String) async throws -> Void) async throws {
        try await withTemporaryDirectory { directory async throws in
            var configuration = Configuration(directory: directory)
            configuration.storage.state = .memory
            configuration.wal.segmentMegabytes = 16
            let node = try await Node.start(configuration: configuration)
            for number in 0..<20 { try await node.put(Bytes("secret-\(number)"), "value") }
            await node.stop()
            try await body(directory)
        }
    }

    private func lines(_ arguments: String...) throws -> [String] {
        let outcome = try ukehi(["wal"] + arguments)
        #expect(outcome.status == 0, "\(arguments): \(outcome.errors)")
        #expect(!outcome.output.contains("secret"))
        #expect(!outcome.output.contains("\u{1b}"), "colour where no terminal is")
        #expect(outcome.errors.isEmpty)
        return outcome.output.split(separator: "\n").map { String($0) }
    }

    @Test("dump shows what its filters ask for")
    func dump() async throws {
        try await withLog { directory in
            let all = try lines("dump", directory, "--json")
            let births = try lines("dump", directory, "--json", "--kind", "birth")
            #expect(!births.isEmpty && births.count < all.count)
            #expect(!births.contains { $0.contains("\"type\":\"entry\"") })
            let entries = try lines(
                "dump", directory, "--json", "--from", "2", "--to", "2", "--term", "6")
            for line in entries where line.contains("\"type\":\"entry\"") {
                #expect(line.contains("\"index\":2,"))
            }
            #expect(try lines("dump", directory, "--since", "2100-01-01").isEmpty)
            #expect(try lines("dump", directory, "--until", "1970-01-02T00:00:00Z").isEmpty)
            #expect(try lines("dump", directory, "--lsn-from", "1", "--lsn-to", "1").count > 1)
            for wrong in [
                ["--kind", "nonsense"], ["--since", "yesterday"], ["--from", "3", "--to", "2"],
                ["--since", "2026-02-30"], ["--limit", "0"],
            ] {
                #expect(try ukehi(["wal", "dump", directory] + wrong).status == 64, "\(wrong)")
            }
        }
    }

    @Test("stat draws the segments and lists the regions, for people and for machines")
    func stat() async throws {
        try await withLog { directory in
            let text = try lines("stat", directory, "--top", "3").joined(separator: "\n")
            for part in ["█", "free", "held back", "regions by live bytes", "padding", "and "] {
                #expect(text.contains(part), "\(part) in \(text)")
            }
            let objects = try lines("stat", directory, "--json")
            #expect(objects.contains { $0.hasPrefix("{\"type\":\"segment\",\"segment\":1,") })
            #expect(objects.contains { $0.hasPrefix("{\"type\":\"region\",") })
            #expect(objects.last?.hasPrefix("{\"type\":\"log\",") == true)
            #expect(objects.last?.hasSuffix("\"problem\":null}") == true)
        }
    }

    @Test("diff ends with 0 on equal logs, 1 where they differ and must not, 20 on damage")
    func diff() async throws {
        try await withLog { directory in
            let copy = directory + "-copy"
            let other = directory + "-other"
            defer {
                for path in [copy, other] { try? FileManager.default.removeItem(atPath: path) }
            }
            try FileManager.default.copyItem(atPath: directory, toPath: copy)
            let equal = try lines("diff", directory, copy)
            #expect(equal.count == 1 && equal[0].contains("regions equal"))
            #expect(try lines("diff", directory, copy, "--all").count > 1)

            // Another cluster of one: the same regions with entries of their own.
            var configuration = Configuration(directory: other)
            configuration.storage.state = .memory
            configuration.wal.segmentMegabytes = 16
            let node = try await Node.start(configuration: configuration)
            for number in 0..<20 { try await node.put(Bytes("secret-\(number)"), "other value") }
            await node.stop()
            let outcome = try ukehi(["wal", "diff", directory, other, "--json"])
            #expect(outcome.status == 1)
            #expect(outcome.output.contains("\"verdict\":\"committed\""))
            #expect(!outcome.output.contains("secret"))

            let path = "\(copy)/wal/0000000000000001.wal"
            var bytes = try Data(contentsOf: URL(filePath: path))
            bytes[8192 + 100] ^= 1
            try bytes.write(to: URL(filePath: path))
            #expect(try ukehi(["wal", "diff", directory, copy]).status == 20)
            let verified = try ukehi(["wal", "verify", copy])
            #expect(verified.status == 20)
            #expect(verified.errors.contains("segment 1, offset 8192"))
            #expect(verified.output.contains("lost if it were cut there: entries "))
            #expect(try ukehi(["wal", "diff", directory, copy + "-nowhere"]).status == 64)
        }
    }

    @Test("bench alone still means the cluster's, and the log has its own")
    func bench() throws {
        let help = try ukehi(["bench", "--help"]).output
        #expect(help.contains("--read-ratio"))
        #expect(help.contains("ukehi bench wal"))
        #expect(try ukehi(["bench", "--clients", "0"]).errors.contains("--clients must be"))
        #expect(try ukehi(["bench", "wal", "--help"]).output.contains("--appenders"))
        #expect(try ukehi(["bench", "wal", "--appenders", "0"]).status == 64)
    }

    @Test("bench wal measures, reads back and cleans up", .timeLimit(.minutes(1)))
    func logBench() async throws {
        try await withTemporaryDirectory { directory async throws in
            let outcome = try ukehi([
                "bench", "wal", "--appenders", "1,20", "--regions", "7", "--duration", "0.1",
                "--segment-mb", "4", "--dir", directory, "--json",
            ])
            #expect(outcome.status == 0, "\(outcome.errors)")
            #expect(outcome.output.contains("\"benchmark\":\"wal\""))
            #expect(outcome.output.contains("\"appenders\":20,\"entry_bytes\":128,\"regions\":7"))
            #expect(outcome.output.contains("\"verified\":true,\"difference\":null}\n"))
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory).isEmpty)
        }
    }
}
