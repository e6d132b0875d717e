// Three real processes, killed with `kill -9` under load: what was acknowledged must be there.

import Foundation
import Synchronization
import Testing
import Ukehi
import _UkehiTestSupport

/// Writes keys that are never written twice, and remembers which were acknowledged.
private final class Writers: Sendable {
    private struct State {
        var acknowledged: [Bytes: Bytes] = [:]
        var isStopped = false
    }
    private let state = Mutex(State())

    var count: Int { state.withLock { $0.acknowledged.count } }
    var acknowledged: [Bytes: Bytes] { state.withLock { $0.acknowledged } }
    private var isStopped: Bool { state.withLock { $0.isStopped } }
    func stop() { state.withLock { $0.isStopped = true } }

    /// Writes until stopped.
    func run(_ writer: Int, addresses: [String]) async throws {
        let client = try Client(endpoints: addresses)
        var number = 0
        while !isStopped {
            // First bytes differ, so that all regions take part.
            let first = UInt8(truncatingIfNeeded: number &* 41 &+ writer)
            let key = Bytes([first] + Array("/\(writer)/\(number)".utf8))
            let value = Bytes("value \(writer) \(number)")
            number += 1
            do {
                try await client.put(key, value, timeout: .seconds(10))
                state.withLock { $0.acknowledged[key] = value }
            } catch {
                // Refused or unknown: nothing was promised.
            }
        }
        await client.stop()
    }
}

@Suite("Real processes", .prompt, .serialized, .timeLimit(.minutes(5)))
struct ServerRunnerTests {
    private func start(
        _ position: Int, _ addresses: [String], _ directory: String, state: String
    ) throws -> ServerProcess {
        try ServerProcess(
            position: position, addresses: addresses,
            directory: "\(directory)/node-\(position + 1)", extra: ["--storage-state", state])
    }

    /// Every acknowledged key has its value, asked at each node.
    private func verify(_ expected: [Bytes: Bytes], _ addresses: [String]) async throws {
        for address in addresses {
            let client = try Client(endpoints: [address])
            var found: [Bytes: Bytes] = [:]
            var next: Bytes? = ""
            while let from = next {
                let page = try await client.scan(
                    from: from, to: nil, limit: 5000, mode: .linearizable, timeout: .seconds(30))
                for pair in page.pairs { found[pair.key] = pair.value }
                next = page.next
            }
            let lost = expected.filter { found[$0.key] != $0.value }
            #expect(lost.isEmpty, "\(lost.count) of \(expected.count) lost, asked at \(address)")
            await client.stop()
        }
    }

    @Test(
        "no acknowledged write is lost when nodes are killed under load, one by one and all at once",
        arguments: ["memory", "rocksdb"])
    func killUnderLoad(state: String) async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(3)
            var nodes = try (0..<3).map { try start($0, addresses, directory, state: state) }
            for node in nodes { try await node.ready() }

            let writers = Writers()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for writer in 0..<8 {
                    group.addTask { try await writers.run(writer, addresses: addresses) }
                }
                for victim in 0..<3 {
                    try await progress(writers)
                    try await nodes[victim].kill()
                    // Two of three go on.
                    try await progress(writers)
                    nodes[victim] = try start(victim, addresses, directory, state: state)
                    try await nodes[victim].ready()
                }
                try await progress(writers)
                // All at once, in the middle of writing.
                for node in nodes { try await node.kill() }
                writers.stop()
                try await group.waitForAll()
            }
            nodes = try (0..<3).map { try start($0, addresses, directory, state: state) }
            for node in nodes { try await node.ready() }
            try await verify(writers.acknowledged, addresses)

            for node in nodes {
                #expect(try await node.stop(SIGTERM) == 0)
            }
        }
    }

    /// Returns when 200 more writes were acknowledged.
    private func progress(_ writers: Writers) async throws {
        let wanted = writers.count + 200
        try await eventually("writes go on") { writers.count >= wanted }
    }

    @Test("Ctrl-C stops a node cleanly, and it goes on where it was")
    func interrupt() async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(1)
            for round in 0..<2 {
                let node = try start(0, addresses, directory, state: "memory")
                try await node.ready()
                let client = try Client(endpoints: addresses)
                if round == 1 { #expect(try await client.get("k")?.value == "v") }
                try await client.put("k", "v")
                await client.stop()
                #expect(try await node.stop(SIGINT) == 0)
            }
        }
    }

    @Test("bad starts end with their exit codes and say what to do")
    func badStarts() async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(1)
            let node = try start(0, addresses, directory, state: "memory")
            try await node.ready()

            // The same directory from a second process.
            let other = try freeAddresses(1)
            let second = try start(0, other, directory, state: "memory")
            #expect(try await second.exitCode() == 24)
            #expect(second.printed.contains("in use"))

            // A port that is taken.
            let third = try ServerProcess(
                position: 0, addresses: addresses, directory: directory + "/other")
            #expect(try await third.exitCode() == 69)
            #expect(third.printed.contains(addresses[0]))

            // Configuration.
            let fourth = try ServerProcess(
                position: 0, addresses: other, directory: directory + "/other",
                extra: ["--raft-max-log-mb", "0", "--storage-cache-mb", "x"])
            #expect(try await fourth.exitCode() == 78)
            #expect(fourth.printed.contains("raft.max_log_mb"))
            #expect(fourth.printed.contains("storage.cache_mb"))

            #expect(try await node.stop(SIGTERM) == 0)
            // Another node's directory.
            let fifth = try ServerProcess(
                position: 0, addresses: other, directory: directory + "/node-1",
                extra: ["--cluster-node-id", "node-9"])
            #expect(try await fifth.exitCode() == 24)
            #expect(fifth.printed.contains("node-1"))
        }
    }
}
