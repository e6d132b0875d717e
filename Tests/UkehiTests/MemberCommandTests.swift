// `ukehi member` and `ukehi snapshot transfers` as an operator meets them: real processes, the
// built command, nothing else.

import Foundation
import Testing
import Ukehi
import UkehiBase
import UkehiNode
import UkehiPOSIX
import UkehiWAL
import _UkehiTestSupport

/// What `member list --json` and `member plan --json` say of a region.
private struct Listed: Decodable {
    struct Member: Decodable {
        var peer: UInt64
        var node: String
        var role: String
        var answers: Bool
    }
    var region: UInt64
    var epoch: String
    var leader: String
    var members: [Member]
    var wanted: [String]
    var progress: String
    var steps: [String]

    var nodes: [String] { members.map(\.node).sorted() }

    /// Who holds it and as what, whoever leads and however long its log is.
    var holders: String {
        let parts = members.map { member in
            let role = member.role == "leader" ? "voter" : member.role
            return "\(member.peer) on \(member.node): \(role)"
        }
        return "region \(region), epoch \(epoch), \(parts)"
    }
}

/// What `snapshot transfers --json` says of a transfer.
private struct Told: Decodable {
    var node: String
    var region: UInt64
    var direction: String
    var peerNode: String?
    var stage: String
    var doneBytes: Int
    var totalBytes: Int?
    var sinceMs: Int
}

@Suite("Command line: members", .prompt, .serialized, .timeLimit(.minutes(5)))
struct MemberCommandTests {
    private static let names = ["node-1", "node-2", "node-3"]
    /// One in each of the two regions, 2 and 3.
    private static let keys: [Bytes] = [[0x10], [0xd0]]

    /// Leaders stay where they are put, logs are compacted soon, and snapshots take their time.
    private func start(
        _ position: Int, _ addresses: [String], _ directory: String
    ) throws -> ServerProcess {
        try ServerProcess(
            position: position, addresses: addresses,
            directory: "\(directory)/node-\(position + 1)",
            extra: [
                "--storage-state", "memory", "--sharding-num-shards", "2",
                "--sharding-rebalance-threshold", "1", "--raft-snapshot-interval", "10",
                "--raft-snapshot-mb-per-second", "1",
            ])
    }

    /// Patient: other tests may have the processors to themselves for a while.
    private func options(_ addresses: [String]) -> [String] {
        ["--endpoint", addresses.joined(separator: ","), "--timeout", "60"]
    }

    /// The command's outcome, asked again until it ends with 0.
    private func succeed(_ arguments: [String]) async throws -> Outcome {
        var outcome = Outcome(status: 0, output: "", errors: "")
        do {
            try await eventually("\(arguments)") {
                outcome = try ukehi(arguments)
                return outcome.status == 0
            }
        } catch {
            throw NotInTime(
                what: "\(arguments): \(outcome.status), \(outcome.output) \(outcome.errors)")
        }
        return outcome
    }

    private func list(_ options: [String]) async throws -> [Listed] {
        let outcome = try await succeed(["member", "list", "--json"] + options)
        return try objects(outcome.output)
    }

    private func put(_ value: Bytes, _ client: Client) async throws {
        for key in Self.keys { try await client.put(key, value, timeout: .seconds(60)) }
    }

    private func expect(_ value: Bytes, _ client: Client) async throws {
        for key in Self.keys {
            let found = try await client.get(key, mode: .linearizable, timeout: .seconds(60))
            #expect(found?.value == value)
        }
    }

    /// The name of the node that leads a region, as the node that told of it sees it.
    private func leader(of region: UInt64, _ topology: Topology?) -> String? {
        let leader = topology?.regions.first { $0.region == RegionID(region) }?.leader
        guard let leader else { return nil }
        return topology?.nodes.first { $0.node == leader }?.name
    }

    /// What no compression makes smaller.
    private func noise(_ count: Int, seed: UInt64) -> Bytes {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count + 8)
        var state = seed
        while bytes.count < count {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            withUnsafeBytes(of: state) { bytes.append(contentsOf: $0) }
        }
        return Bytes(bytes)
    }

    /// Whether a node has let go of a region's log behind the state that it keeps.
    private func isCompacted(_ region: UInt64, _ directory: String) throws -> Bool {
        let kept = try FileManager.default.contentsOfDirectory(atPath: directory + "/snapshots")
        guard kept.contains(where: { $0.hasPrefix("kept-\(region)-") }) else { return false }
        let report = WALInspector(fileSystem: POSIXFileSystem(), directory: directory).stat()
        let use = report.regions.first { $0.region == RegionID(region) }
        return use.map { $0.firstIndex > LogIndex(1) } ?? false
    }

    @Test("plans change nothing; leaders and members go where they are told; the last one stays")
    func story() async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(3)
            let nodes = try (0..<3).map { try start($0, addresses, directory) }
            for node in nodes { try await node.ready() }
            let client = try Client(endpoints: addresses)
            try await put("one", client)
            let options = options(addresses)
            let quiet = try await succeed(["snapshot", "transfers", "--json"] + options)
            #expect(quiet.output.isEmpty)

            // What would be done, and nothing is.
            let before = try await list(options)
            #expect(before.map(\.region) == [1, 2, 3])
            #expect(before.allSatisfy { $0.nodes == Self.names })
            let toTwo = ["member", "plan", "--voters", "node-1,node-2"]
            let plan = try await succeed(toTwo + ["--region", "2"] + options)
            #expect(plan.output.hasPrefix("region 2:\n  1. "), "\(plan.output)")
            #expect(plan.output.contains(". remove p"), "\(plan.output)")
            let all = try await succeed(toTwo + ["--all", "--json"] + options)
            let planned: [Listed] = try objects(all.output)
            #expect(planned.map(\.region) == [1, 2, 3])
            #expect(planned.allSatisfy { $0.progress == "done" && !$0.steps.isEmpty })
            let same = try await succeed(
                ["member", "plan", "--voters", "node-3,node-2,node-1", "--region", "2"] + options)
            #expect(same.output == "region 2:\n  nothing to do\n")
            try refuse(
                ["member", "plan", "--voters", "node-1,node-9", "--all"] + options, 64,
                "node-9 is no node of the cluster")
            let after = try await list(options)
            #expect(after.map(\.holders) == before.map(\.holders))
            #expect(after.allSatisfy { $0.wanted.isEmpty && $0.progress == "none" })

            // A leadership goes to a node that has none, so that nobody has reason to move it on.
            let leaders = after.filter { $0.region != 1 }.map(\.leader)
            let heir = try #require(Self.names.first { !leaders.contains($0) })
            let moved = try await succeed(
                ["member", "transfer-leader", heir, "--region", "2"] + options)
            #expect(moved.output == "region 2 is led by \(heir)\n")
            try await eventually("all nodes know that \(heir) leads region 2") {
                for address in addresses {
                    let seen = try? await client.topology(at: address, timeout: .seconds(5))
                    guard leader(of: 2, seen) == heir else { return false }
                }
                return true
            }

            // A node less, but not one that is none.
            try refuse(
                ["member", "remove", "node-9", "--all"] + options, 64,
                "node-9 is no node of the cluster")
            try refuse(
                ["member", "transfer-leader", "node-9", "--all"] + options, 64,
                "node-9 is no node of the cluster")
            let untouched = try await list(options)
            #expect(untouched.map(\.holders) == before.map(\.holders))
            _ = try await succeed(["member", "remove", "node-3", "--all"] + options)
            let two = try await list(options)
            #expect(two.allSatisfy { $0.nodes == ["node-1", "node-2"] }, "\(two.map(\.holders))")
            try await put("two", client)

            // Of one region all but the last, which stays.
            _ = try await succeed(["member", "remove", "node-2", "--region", "3"] + options)
            let last = try await list(options)
            #expect(last.map(\.nodes.count) == [2, 2, 1])
            try refuse(
                ["member", "remove", "node-1", "--region", "3"] + options, 1, "Nobody would vote")
            let kept = try await list(options)
            #expect(kept.map(\.holders) == last.map(\.holders))
            try await put("three", client)
            _ = try await succeed(["member", "add", "node-2", "--region", "3"] + options)

            // So much of the other that its way to node-3 can be watched, behind a log that is cut.
            for number in 0..<4 as Range<UInt8> {
                try await client.put(
                    Bytes([0x10, number]), noise(1 << 20, seed: UInt64(number) + 1),
                    timeout: .seconds(60))
            }
            for number in 0..<20 as Range<UInt8> {
                try await client.put(Bytes([0x11, number]), "small", timeout: .seconds(60))
            }
            try await eventually("the logs of region 2 are compacted") {
                try ["node-1", "node-2"].allSatisfy { try isCompacted(2, "\(directory)/\($0)") }
            }
            let known = try await client.topology(timeout: .seconds(60)).nodes.map(\.node)
            var told: [Told] = []
            try await eventually("a snapshot goes to node-3") {
                // Again and again: the next leader does not know what the last one was asked for.
                _ = try? await client.members(
                    of: RegionID(2), .set(known), timeout: .seconds(5))
                let outcome = try ukehi(["snapshot", "transfers", "--json"] + options)
                guard outcome.status == 0 else { return false }
                told = try objects(outcome.output)
                return told.contains { $0.region == 2 && $0.peerNode == "node-3" }
            }
            let way = try #require(told.first { $0.region == 2 && $0.peerNode == "node-3" })
            #expect(way.direction == "sends" && ["node-1", "node-2"].contains(way.node))
            let isUnmade = ["offered", "making"].contains(way.stage)
            #expect(isUnmade == (way.totalBytes == nil), "\(way)")
            #expect(isUnmade || way.totalBytes ?? 0 > 4 << 20, "\(way)")
            let table = try await succeed(["snapshot", "transfers"] + options)
            #expect(table.output.hasPrefix("NODE "), "\(table.output)")

            // And back to three.
            _ = try await succeed(["member", "add", "node-3", "--all"] + options)
            let three = try await list(options)
            #expect(three.allSatisfy { $0.nodes == Self.names }, "\(three.map(\.holders))")
            let roles = Set(three.flatMap { $0.members.map(\.role) })
            #expect(roles == ["voter"])
            try await expect("three", client)
            try await put("four", client)
            try await expect("four", client)
            await client.stop()
            for node in nodes { #expect(try await node.stop(SIGTERM) == 0) }
        }
    }

    @Test("with a node down no quorum is given away; a node that stops gives its leaderships away")
    func quorum() async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(3)
            var nodes = try (0..<3).map { try start($0, addresses, directory) }
            for node in nodes { try await node.ready() }
            let client = try Client(endpoints: addresses)
            try await put("one", client)
            let options = options(addresses)
            let before = try await list(options)

            try await nodes[2].kill()
            try await eventually("node-3 is known not to answer, and the others do") {
                let regions = try await list(options)
                return regions.flatMap(\.members).allSatisfy {
                    $0.answers == ($0.node != "node-3")
                }
            }
            let plan = try ukehi(
                ["member", "plan", "--voters", "node-1,node-3", "--region", "2"] + options)
            #expect(plan.status == 1)
            #expect(
                plan.output.contains("then no further: Only 1 of the 2 voters"), "\(plan.output)")
            try await eventually("it is refused for the voters that do not answer") {
                // One that leads would hand over first; who leads may have changed since.
                let led = try await list(options).first { $0.region == 2 }?.leader
                let follower = led == "node-1" ? "node-2" : "node-1"
                let refused = try ukehi(
                    ["member", "remove", follower, "--region", "2", "--wait", "0"] + options)
                #expect(refused.status != 0)
                return refused.status == 1 && refused.errors.contains("Only 1 of the 2 voters")
            }
            let after = try await list(options)
            #expect(after.map(\.holders) == before.map(\.holders))
            // Its leader would go on once node-3 is back.
            _ = try await succeed(
                ["member", "set", "--voters", Self.names.joined(separator: ","), "--region", "2"]
                    + options)
            try await eventually("who does not answer is named") {
                let living = ["--endpoint", addresses[..<2].joined(separator: ",")]
                let outcome = try ukehi(["snapshot", "transfers", "--timeout", "1"] + living)
                return outcome.status == 1
                    && outcome.errors.contains("node-3: its transfers are not shown")
            }
            try await put("two", client)

            nodes[2] = try start(2, addresses, directory)
            try await nodes[2].ready()
            try await eventually("all answer") {
                let regions = try await list(options)
                return regions.flatMap(\.members).allSatisfy(\.answers)
            }
            let whole = try await list(options)
            #expect(whole.map(\.holders) == before.map(\.holders))

            let led = try #require(whole.first { $0.region == 2 })
            let leaving = led.leader
            let position = try #require(Self.names.firstIndex(of: leaving))
            let stopped = nodes.remove(at: position)
            #expect(try await stopped.stop(SIGTERM) == 0)
            let others = addresses.filter { $0 != addresses[position] }
            let rest = try Client(endpoints: others)
            try await put("three", rest)
            try await eventually("the others lead all regions") {
                for address in others {
                    let seen = try? await rest.topology(at: address, timeout: .seconds(5))
                    for region in [2, 3] as [UInt64] {
                        let name = leader(of: region, seen)
                        guard name != nil, name != leaving else { return false }
                    }
                }
                return true
            }
            try await expect("three", rest)
            await rest.stop()
            await client.stop()
            for node in nodes { #expect(try await node.stop(SIGTERM) == 0) }
        }
    }
}
