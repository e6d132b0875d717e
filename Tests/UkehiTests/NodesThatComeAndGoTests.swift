// Nodes that join, are wiped and die for good, as an operator meets them: real processes, the built
// command, nothing else.

import Foundation
import Synchronization
import Testing
import Ukehi
import _UkehiTestSupport

@Suite("Nodes that come and go", .prompt, .serialized, .timeLimit(.minutes(5)))
struct NodesThatComeAndGoTests {
    private func start(
        _ position: Int, knowing addresses: [String], _ directory: String
    ) throws -> ServerProcess {
        try ServerProcess(
            position: position, addresses: addresses,
            directory: "\(directory)/node-\(position + 1)", extra: ["--storage-state", "memory"])
    }

    /// The command's outcome, asked again until it ends with 0.
    private func succeed(_ arguments: [String]) async throws -> Outcome {
        var outcome = Outcome(status: 0, output: "", errors: "")
        var tries: [String] = []
        do {
            try await eventually("\(arguments)") {
                outcome = try ukehi(arguments)
                tries.append("\(outcome.status): \(outcome.output) \(outcome.errors)")
                return outcome.status == 0
            }
        } catch {
            throw NotInTime(what: "\(arguments): \(tries.suffix(2))")
        }
        return outcome
    }

    private func names(_ client: Client) async -> [String] {
        let nodes = (try? await client.topology(timeout: .seconds(5)))?.nodes ?? []
        return nodes.map(\.name).sorted()
    }

    @Test(
        "one node grows to three and to five and back to one, and loses nothing of what is written meanwhile"
    )
    func growsAndShrinks() async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(5)
            var nodes: [ServerProcess] = []
            let client = try Client(endpoints: [addresses[0]])
            func bringUp(_ count: Int) async throws {
                while nodes.count < count {
                    let known = Array(addresses[...nodes.count])
                    nodes.append(try start(nodes.count, knowing: known, directory))
                    try await nodes[nodes.count - 1].ready()
                }
                let expected = (1...count).map { "node-\($0)" }
                try await eventually("\(count) nodes are known") {
                    await names(client) == expected
                }
            }
            try await bringUp(1)
            let isOver = Mutex(false)
            let keys = (0..<16 as Range<UInt8>).map { Bytes([$0 << 4, 1]) }
            // Each key's last acknowledged number.
            let writer = Task {
                var number = 0
                while !isOver.withLock({ $0 }) {
                    try await client.put(
                        keys[number % keys.count], Bytes("\(number)"), timeout: .seconds(60))
                    number += 1
                }
                return number
            }
            var done: [Int] = []
            for count in [3, 5, 3, 1] {
                try await bringUp(max(count, nodes.count))
                let known = try await client.topology(timeout: .seconds(60)).nodes
                let wanted = (1...count).compactMap { number in
                    known.first { $0.name == "node-\(number)" }?.node
                }
                var steps = 0
                try await client.setMembers(wanted) { event in
                    if case .step = event { steps += 1 }
                }
                #expect(steps > 0)
                let view = try await client.view(timeout: .seconds(60))
                #expect(view.silent.isEmpty && view.unknown.isEmpty)
                for region in view.topology.regions {
                    let members = try await client.members(
                        of: region.region, timeout: .seconds(60)
                    ).members.map(\.node)
                    #expect(Set(members) == Set(wanted))
                }
                done.append(count)
            }
            #expect(done == [3, 5, 3, 1])
            isOver.withLock { $0 = true }
            let written = try await writer.value
            #expect(written > keys.count)
            for position in 1..<5 { try await nodes[position].kill() }
            for (position, key) in keys.enumerated() {
                let last = (0..<written).last { $0 % keys.count == position }
                let found = try await client.get(key, mode: .linearizable, timeout: .seconds(60))
                #expect(found?.value.text == last.map { "\($0)" })
            }
        }
    }

    @Test("a node that is started elsewhere is found there, without it there would be no quorum")
    func elsewhere() async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(4)
            let first = Array(addresses[..<3])
            var nodes = try (0..<3).map { try start($0, knowing: first, directory) }
            for node in nodes { try await node.ready() }
            let client = try Client(endpoints: first)
            let keys: [Bytes] = [0x10, 0x50, 0x90, 0xd0].map { Bytes([$0]) }
            for key in keys { try await client.put(key, "one", timeout: .seconds(60)) }
            for position in [1, 2] { try await nodes[position].kill() }
            nodes[2] = try start(
                2, knowing: [addresses[0], addresses[1], addresses[3]], directory)
            try await nodes[2].ready()
            for key in keys { try await client.put(key, "two", timeout: .seconds(60)) }
            try await eventually("the nodes are listed with their addresses") {
                let listed = try? await client.topology(timeout: .seconds(5))
                return listed?.nodes.first { $0.name == "node-3" }?.address == addresses[3]
            }
        }
    }

    @Test(
        "a fourth joins with one command, a wiped one comes back as a new one, and one survivor goes on"
    )
    func story() async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(4)
            let first = Array(addresses[..<3])
            var nodes = try (0..<3).map { try start($0, knowing: first, directory) }
            for node in nodes { try await node.ready() }
            let client = try Client(endpoints: first)
            let keys: [Bytes] = [0x10, 0x50, 0x90, 0xd0].map { Bytes([$0]) }
            for key in keys { try await client.put(key, "one", timeout: .seconds(60)) }

            // One command, and it is a node; one more, and it holds every region.
            nodes.append(try start(3, knowing: addresses, directory))
            try await eventually("node-4 is known") { await names(client).contains("node-4") }
            let endpoint = ["--endpoint", addresses.joined(separator: ",")]
            _ = try await succeed(
                ["member", "replace", "node-3", "--with", "node-4", "--all"] + endpoint)
            for key in keys { try await client.put(key, "two", timeout: .seconds(60)) }

            // node-2 loses its disk, and is started as before.
            try await nodes[1].kill()
            try FileManager.default.moveItem(
                atPath: "\(directory)/node-2", toPath: "\(directory)/lost")
            nodes[1] = try start(1, knowing: first, directory)
            try await eventually("the old node-2 is gone") {
                await names(client).contains("node-2 (gone)")
            }
            let list = try await succeed(["member", "list"] + endpoint)
            #expect(list.output.contains("ukehi member replace n2 --with"), "\(list.output)")
            _ = try await succeed(
                ["member", "replace", "n2", "--with", "node-2", "--all"] + endpoint)
            for key in keys { try await client.put(key, "three", timeout: .seconds(60)) }
            try await eventually("nobody is gone") {
                await names(client) == ["node-1", "node-2", "node-3", "node-4"]
            }

            // The lost disk is found: nobody wants it.
            let elsewhere = try freeAddresses(1)
            let found = try ServerProcess(
                position: 1, addresses: [addresses[0]] + elsewhere, directory: "\(directory)/lost",
                extra: ["--storage-state", "memory"])
            #expect(try await found.exitCode() == 24)
            #expect(
                found.printed.contains("Another data directory took the name"), "\(found.printed)")

            // Two of the three that hold everything die for good, and the one that holds nothing, too.
            for position in [1, 2, 3] { try await nodes[position].kill() }
            let recover = [
                "recover", "--dead", "node-2,node-3,node-4", "--endpoint", addresses[0],
            ]
            let plan = try await succeed(recover + ["--json"])
            #expect(plan.output.contains("\"may_lose\":true"), "\(plan.output)")
            let part = try #require(plan.output.firstRange(of: /"plan":"[0-9a-f]{8}"/))
            let fingerprint = String(plan.output[part].dropFirst(8).dropLast())
            let other = try ukehi(recover + ["--apply", "00000000"])
            #expect(other.status == 1)
            #expect(other.errors.contains("Nothing was done"), "\(other.errors)")
            let done = try ukehi(recover + ["--apply", fingerprint])
            #expect(done.status == 0, "\(done.output) \(done.errors)")
            let alone = try Client(endpoints: [addresses[0]])
            for key in keys {
                let found = try await alone.get(key, mode: .linearizable, timeout: .seconds(60))
                #expect(found?.value == "three")
                try await alone.put(key, "four", timeout: .seconds(60))
            }

            // The dead are refused, with what to do; without their directories they come back as new nodes.
            let dead = try start(3, knowing: addresses, directory)
            #expect(try await dead.exitCode() == 24)
            #expect(dead.printed.contains("declared dead"), "\(dead.printed)")
            try FileManager.default.removeItem(atPath: "\(directory)/node-4")
            let new = try start(3, knowing: addresses, directory)
            try await eventually("node-4 is a node again") {
                await names(alone).contains("node-4")
            }
            _ = try await succeed(
                ["member", "add", "node-4", "--all", "--endpoint", addresses[0]])
            for key in keys {
                let found = try await alone.get(key, mode: .linearizable, timeout: .seconds(60))
                #expect(found?.value == "four")
            }
            await client.stop()
            await alone.stop()
            #expect(try await new.stop(SIGTERM) == 0)
            #expect(try await nodes[0].stop(SIGTERM) == 0)
        }
    }
}
