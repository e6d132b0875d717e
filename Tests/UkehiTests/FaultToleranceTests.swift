// 2n + 1 nodes survive n failures, with real processes and `kill -9`.

import Foundation
import Testing
import Ukehi
import _UkehiTestSupport

@Suite("Fault tolerance", .prompt, .serialized, .timeLimit(.minutes(5)))
struct FaultToleranceTests {
    /// A key in each of the four regions.
    private static let keys: [Bytes] = [0x10, 0x50, 0x90, 0xd0].map { Bytes([$0]) }

    private func start(
        _ position: Int, _ addresses: [String], _ directory: String
    ) throws -> ServerProcess {
        // In memory: what comes back comes from the log, and many processes start at once.
        try ServerProcess(
            position: position, addresses: addresses,
            directory: "\(directory)/node-\(position + 1)", extra: ["--storage-state", "memory"])
    }

    private func put(_ value: Bytes, _ client: Client) async throws {
        for key in Self.keys { try await client.put(key, value, timeout: .seconds(60)) }
    }

    /// Every key has one of the values that it may have.
    private func expect(_ values: Set<Bytes>, _ client: Client) async throws {
        for key in Self.keys {
            let found = try await client.get(key, mode: .linearizable, timeout: .seconds(60))
            let value = try #require(found?.value)
            #expect(values.contains(value), "\(value.text ?? "?")")
        }
    }

    @Test(
        "3 nodes survive 1 failure, 5 survive 2, 7 survive 3; one more stops them, and changes nothing",
        arguments: [3, 5, 7])
    func survives(count: Int) async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(count)
            var nodes = try (0..<count).map { try start($0, addresses, directory) }
            for node in nodes { try await node.ready() }
            let client = try Client(endpoints: addresses)
            try await put("before", client)

            // A minority, all at once: the first leaders of the regions are among them.
            let failures = (count - 1) / 2
            for node in nodes[..<failures] { node.send(SIGKILL) }
            for node in nodes[..<failures] { try await node.kill() }
            try await expect(["before"], client)
            try await put("without a minority", client)
            try await expect(["without a minority"], client)

            // One more: nobody can have a majority, so that nothing may succeed, however long one waits.
            try await nodes[failures].kill()
            let key = Self.keys[0]
            var possible: Set<Bytes> = ["without a minority"]
            do {
                try await client.put(key, "without a majority", timeout: .seconds(1))
                Issue.record("a write was acknowledged by \(failures) of \(count) nodes")
            } catch RequestError.outcomeUnknown {
                possible.insert("without a majority")
            } catch {
                // Refused: it is not there, now or later.
            }
            do {
                let read = try await client.get(key, mode: .linearizable, timeout: .seconds(1))
                Issue.record("\(failures) of \(count) nodes gave \(read?.value.text ?? "nothing")")
            } catch {
                // A read that might be old is none.
            }

            for position in 0...failures {
                nodes[position] = try start(position, addresses, directory)
            }
            try await expect(possible, client)
            try await put("after", client)
            for node in nodes { try await node.ready() }
            try await expect(["after"], client)
            await client.stop()
            for node in nodes { #expect(try await node.stop(SIGTERM) == 0) }
        }
    }
}
