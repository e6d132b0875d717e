import Foundation
import Testing
import Ukehi
import _UkehiTestSupport

@Suite("Command line: processes", .prompt, .timeLimit(.minutes(2)))
struct CommandLineTests {
    @Test("each configuration key has its flag")
    func flags() throws {
        let values = [
            "cluster.node_id": "n", "cluster.peers": "a:1,b:2", "cluster.data_dir": "d",
            "cluster.listen": "c:3", "cluster.advertise": "d:4", "storage.state": "none",
            "wal.on_damage": "repair",
            "sharding.rebalance_threshold": "0.5", "wal.unsafe_no_fsync": "true",
            "sharding.split_threshold_mb": "500", "raft.election_timeout_ms": "5000",
            "raft.max_log_entries": "500",
        ]
        var arguments = ["serve", "--check"]
        for setting in Setting.all { arguments += [setting.flag, values[setting.path] ?? "50"] }
        let outcome = try ukehi(arguments)
        #expect(outcome.status == 0, "\(outcome.errors)")
    }

    @Test("usage errors end with 64, wrong configuration with 78, both on standard error")
    func exitCodes() throws {
        for arguments in [
            ["nonsense"], ["serve", "--raft-max-log"], ["kv", "get"], ["kv", "cas", "k", "v"],
            ["kv", "get", "k", "--endpoint", "nowhere"], ["kv", "put", "a\\q", "v"],
            ["serve", "--log-level", "loud"],
        ] {
            let outcome = try ukehi(arguments)
            #expect(outcome.status == 64, "\(arguments): \(outcome.errors)")
            #expect(outcome.output.isEmpty)
            #expect(!outcome.errors.isEmpty)
        }
        let outcome = try ukehi(["serve", "--check", "--raft-max-log-mb", "many"])
        #expect(outcome.status == 78)
        #expect(outcome.errors.contains("raft.max_log_mb (--raft-max-log-mb): \"many\""))
        #expect(try ukehi(["serve", "--config", "no/such/file"]).status == 78)
    }

    @Test("help and version")
    func help() throws {
        #expect(try ukehi(["version"]).output.hasPrefix("ukehi "))
        #expect(try ukehi(["--help"]).output.contains("ukehi kv put greeting hello"))
        #expect(try ukehi(["serve", "--help"]).output.contains("--raft-max-log-mb"))
    }

    @Test("kv commands on a running node, for people and for machines")
    func keyValue() async throws {
        try await withTemporaryDirectory { directory async throws in
            var configuration = Configuration(directory: directory)
            configuration.storage.state = .memory
            configuration.wal.segmentMegabytes = 16
            let node = try await Node.start(configuration: configuration)
            func kv(_ arguments: String..., input: String = "") throws -> Outcome {
                try ukehi(["kv"] + arguments + ["--endpoint", node.address], input: input)
            }
            #expect(try kv("get", "k").status == 1)
            #expect(try kv("put", "k", "v1").output.hasPrefix("version "))
            #expect(try kv("get", "k").output == "v1\n")
            #expect(try kv("put", "k", "-", input: "from\nstdin").status == 0)
            #expect(try kv("get", "k").output == "from\\x0astdin\n")
            #expect(try kv("get", "k", "--raw").output == "from\nstdin")
            #expect(try kv("cas", "k", "v2", "--expect", "wrong").status == 1)
            #expect(try kv("cas", "k", "v2", "--expect", "from\\x0astdin").status == 0)
            #expect(try kv("cas", "new", "v", "--expect-absent", "--json").status == 0)
            #expect(try kv("put", "brief", "v", "--expires-after", "0.001").status == 0)
            #expect(try kv("get", "brief").status == 1)
            #expect(try kv("put", "long", "v", "--expires-after", "3600").status == 0)
            #expect(try kv("get", "long").output == "v\n")
            let never = try kv("put", "k", "v", "--expires-after", "0")
            #expect(never.status != 0 && never.errors.contains("--expires-after 0.0: allowed are"))
            #expect(try kv("put", "\\x1b[31m", "red").status == 0)
            let table = try kv("scan")
            #expect(table.output.contains("\\x1b[31m"))
            #expect(!table.output.contains("\u{1b}"))
            #expect(try kv("scan", "--prefix", "k", "--json").output.hasPrefix("{\"key\":\"k\","))
            #expect(try kv("delete", "k").output == "deleted\n")
            #expect(try kv("get", "k", "--json").output == "null\n")
            await node.stop()
            let outcome = try kv("get", "k", "--timeout", "0.2")
            #expect(outcome.status == 69)
            #expect(outcome.errors.contains("Nothing was done"))
        }
    }

    @Test("wal commands on a node's directory, sound and damaged")
    func logTools() async throws {
        try await withTemporaryDirectory { directory async throws in
            var configuration = Configuration(directory: directory)
            configuration.storage.state = .memory
            configuration.wal.segmentMegabytes = 16
            let node = try await Node.start(configuration: configuration)
            for number in 0..<20 { try await node.put(Bytes("secret-\(number)"), "value") }

            // Beside the running node, and after it.
            for _ in 0..<2 {
                #expect(try ukehi(["wal", "verify", directory]).output.hasSuffix("sound\n"))
                #expect(try ukehi(["wal", "audit", directory, "--json"]).status == 0)
                let dump = try ukehi(["wal", "dump", directory])
                #expect(dump.status == 0, "\(dump.errors)")
                #expect(dump.output.contains("segment 1 "))
                #expect(dump.output.contains("1 put"))
                #expect(!dump.output.contains("secret"))
                let json = try ukehi(["wal", "dump", directory, "--json", "--limit", "3"])
                let entries = json.output.split(separator: "\n").filter {
                    $0.contains("\"type\":\"entry\"")
                }
                #expect(entries.count == 3)
                #expect(!json.output.contains("secret"))
                await node.stop()
            }

            try flipBit(inLogOf: directory)
            let outcome = try ukehi(["wal", "verify", directory, "--json"])
            #expect(outcome.status == 20)
            #expect(outcome.output.contains("\"sound\":false"))
            let serve = try ukehi([
                "serve", "--cluster-data-dir", directory, "--cluster-listen", "127.0.0.1:0",
            ])
            #expect(serve.status == 20)
            #expect(serve.errors.contains("segment 1"))
            #expect(try ukehi(["wal", "dump", directory + "/nothing"]).status == 64)
        }
    }

    /// One bit of the first file's first frame, which was acknowledged.
    private func flipBit(inLogOf directory: String) throws {
        let path = "\(directory)/wal/0000000000000001.wal"
        let file = try FileHandle(forUpdating: URL(filePath: path))
        try file.seek(toOffset: 8192 + 100)
        let byte = try #require(try file.read(upToCount: 1)?.first)
        try file.seek(toOffset: 8192 + 100)
        file.write(Data([byte ^ 1]))
        try file.close()
    }

    @Test("a flipped bit in a full log file ends a node that is alone, once it is found")
    func rotInFullFile() async throws {
        try await withTemporaryDirectory { directory in
            var configuration = Configuration(directory: directory)
            configuration.wal.segmentMegabytes = 16
            // The second life begins a file of its own, and gives the first one's its index.
            for life in 0..<2 {
                let node = try await Node.start(configuration: configuration)
                for number in 0..<20 { try await node.put(Bytes("\(life)-\(number)"), "value") }
                await node.stop()
            }
            try flipBit(inLogOf: directory)
            let serve = try ukehi([
                "serve", "--cluster-data-dir", directory, "--cluster-listen", "127.0.0.1:0",
            ])
            #expect(serve.status == 20, "\(serve.errors)")
            #expect(serve.errors.contains("segment 1"), "\(serve.errors)")
        }
    }
}
