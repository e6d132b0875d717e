// The appliers that keep no keys: log digests and embedders' machines.

import Testing
import UkehiBase
import UkehiState

private let user = RegionID(2)

@Suite("log digests")
struct LogDigestTests {
    private func applier() throws -> LogDigestApplier {
        let applier = LogDigestApplier()
        _ = try applier.open(region: .system, system: true, range: .all, epoch: epoch1)
        _ = try applier.open(region: user, system: false, range: .all, epoch: epoch1)
        return applier
    }

    @Test("equal logs give equal digests however they are cut, unequal ones do not")
    func chain() throws {
        let entries = try (1...40).map {
            try entry([.put(key: "k", value: Bytes("\($0)"))], index: UInt64($0))
        }
        let one = try applier()
        var all = ApplyBatch()
        all.append(region: user, entries: entries, wantsResults: true)
        try one.apply(&all)
        #expect(Array(all.items[0].results[39]) == [.applied(version: 40)])

        let two = try applier()
        for entry in entries {
            var batch = ApplyBatch()
            batch.append(region: user, entries: [entry], wantsResults: false)
            try two.apply(&batch)
        }
        #expect(try one.digest(region: user) == two.digest(region: user))

        for change in 0..<3 {
            var other = entries
            switch change {
            case 0: other[20].term = Term(2)
            case 1: other[20].data = other[21].data
            default: other.removeLast()
            }
            let three = try applier()
            var batch = ApplyBatch()
            batch.append(region: user, entries: other, wantsResults: false)
            try three.apply(&batch)
            #expect(try three.digest(region: user) != one.digest(region: user))
        }
    }

    @Test("its system region is a real one")
    func system() throws {
        let applier = try applier()
        var batch = ApplyBatch()
        batch.append(
            region: .system, entries: [try entry([.increment(key: "ids", by: 5)], index: 1)],
            wantsResults: true)
        try applier.apply(&batch)
        #expect(batch.items[0].results[0].first?.counter == 5)
        #expect(try applier.digest(region: .system).applied == LogIndex(1))
    }

    @Test("each bit of a string counts, and so does where strings end")
    func digest() {
        var seen: Set<StateDigest> = []
        var count = 0
        for length in 0..<70 {
            var bytes = [UInt8](repeating: 0, count: length)
            for bit in -1..<length * 8 {
                if bit >= 0 { bytes[bit / 8] ^= 1 << UInt8(bit % 8) }
                var digest = StateDigest()
                digest.mix(Bytes(bytes))
                seen.insert(digest)
                count += 1
                if bit >= 0 { bytes[bit / 8] ^= 1 << UInt8(bit % 8) }
            }
        }
        #expect(seen.count == count)
        var a = StateDigest()
        a.mix("ab")
        a.mix("c")
        var b = StateDigest()
        b.mix("a")
        b.mix("bc")
        #expect(a != b)
    }
}

/// Counts what it is told, per name: an embedder's machine.
private final class Tally: StateMachine, @unchecked Sendable {
    // Safety: the engine calls a machine from one thread at a time.
    private var counts: [(name: Bytes, count: UInt64)] = []

    func apply(_ command: Bytes, _ context: CommandContext) -> Bytes {
        if let found = counts.firstIndex(where: { $0.name == command }) {
            counts[found].count += 1
            return Bytes("\(counts[found].count)@\(context.revision)")
        }
        counts.append((Bytes(command.array), 1))
        counts.sort { $0.name < $1.name }
        return Bytes("1@\(context.revision)")
    }
    func query(_ request: Bytes) -> Bytes {
        Bytes("\(counts.first { $0.name == request }?.count ?? 0)")
    }
    func writeSnapshot(to writer: any SnapshotWriter) {
        for entry in counts {
            writer.write(entry.name)
            writer.write(Bytes("=\(entry.count);"))
        }
    }
    func restore(from reader: any SnapshotReader) throws {
        var text: [UInt8] = []
        while let piece = try reader.read() { text += piece.array }
        for entry in text.split(separator: UInt8(ascii: ";")) {
            let parts = entry.split(separator: UInt8(ascii: "="))
            guard parts.count == 2, let count = UInt64(String(decoding: parts[1], as: UTF8.self))
            else { throw NotATally() }
            counts.append((Bytes(Array(parts[0])), count))
        }
    }
    func copyForSnapshot() -> any StateMachine {
        let copy = Tally()
        copy.counts = counts
        return copy
    }
}

private struct NotATally: Error {}

@Suite("embedders' state machines")
struct MachineApplierTests {
    private func applier() throws -> MachineApplier {
        let applier = MachineApplier { _, _ in Tally() }
        _ = try applier.open(region: .system, system: true, range: .all, epoch: epoch1)
        _ = try applier.open(
            region: user, system: false, range: KeyRange(lower: "", upper: "m"), epoch: epoch1)
        return applier
    }
    private func run(_ applier: Applier, _ commands: [Command], index: UInt64) throws
        -> [CommandResult]
    {
        var batch = ApplyBatch()
        batch.append(
            region: user, entries: [try entry(commands, index: index)], wantsResults: true)
        try applier.apply(&batch)
        return Array(batch.items[0].results[0])
    }

    /// A snapshot of the region; `meanwhile` runs when it has begun.
    private func snapshot(
        _ applier: MachineApplier, meanwhile: () throws -> Void = {}
    ) throws -> MemoryFile {
        let file = MemoryFile()
        var made: SnapshotEncoder?
        try applier.writeSnapshot(of: user) { state, _ in
            let header = SnapshotHeader(
                snapshot: 3, cluster: ClusterID(high: 1, low: 2), region: user,
                content: applier.content(of: user), range: KeyRange(lower: "", upper: "m"),
                members: [SnapshotMember(peer: PeerID(1), node: NodeID(1), roles: [.voter])],
                state: state)
            try meanwhile()
            let encoder = try SnapshotEncoder(header, state: state) { file.bytes += $0 }
            made = encoder
            return encoder
        }
        _ = try made?.finish()
        return file
    }

    @Test("a machine's snapshot makes another one what it was; commands do not wait for it")
    func snapshots() throws {
        let applier = MachineApplier { _, _ in Tally() }
        _ = try applier.open(
            region: user, system: false, range: KeyRange(lower: "", upper: "m"), epoch: epoch1)
        // More than a piece, in pieces that end anywhere.
        let long = Bytes(Array(repeating: UInt8(ascii: "n"), count: 70_000))
        for number in 1...9 {
            let body = Bytes("\(number)".utf8.map { $0 } + long.array)
            _ = try run(applier, [.user(key: "a", body: body)], index: UInt64(number))
        }
        let digest = try applier.digest(region: user)
        let file = try snapshot(applier) {
            _ = try run(applier, [.user(key: "a", body: "later")], index: 10)
        }
        let other = MachineApplier { _, _ in Tally() }
        _ = try other.open(
            region: user, system: false, range: KeyRange(lower: "", upper: "m"), epoch: epoch1)
        let state = try other.install(
            try SnapshotFileReader(file), region: user, descriptor: "members")
        #expect(state.applied == LogIndex(9))
        #expect(try other.digest(region: user) == digest)
        // And it goes on from there.
        #expect(try run(other, [.user(key: "a", body: "later")], index: 10) == [.response("1@10")])
    }

    @Test("a machine that cannot read a snapshot is left as it was")
    func unreadable() throws {
        let applier = try applier()
        _ = try run(applier, [.user(key: "a", body: "x;y")], index: 1)
        let file = try snapshot(applier)
        let other = try self.applier()
        _ = try run(other, [.user(key: "a", body: "kept")], index: 1)
        let digest = try other.digest(region: user)
        #expect(throws: NotATally.self) {
            _ = try other.install(
                try SnapshotFileReader(file), region: user, descriptor: "members")
        }
        #expect(try other.digest(region: user) == digest)
    }

    @Test("commands are answered, others refused, reads see them")
    func commands() throws {
        let applier = try applier()
        #expect(
            try run(
                applier,
                [
                    .user(key: "a", body: "x"), .put(key: "a", value: ""),
                    .user(key: "z", body: "x"), .user(key: "a", body: "x"),
                ], index: 1)
                == [
                    .response("1@1"), .invalid(.unsupported), .invalid(.outsideRegion),
                    .response("2@2"),
                ])
        guard
            case .query(let answer) = applier.read(region: user, .query(key: "a", "x"), tier: .any)
        else {
            Issue.record("no answer")
            return
        }
        #expect(answer == "2")
        guard case .failed(let error) = applier.read(region: user, .get("a"), tier: .any) else {
            Issue.record("a machine of its own answered a get")
            return
        }
        #expect(error.code == .unsupported)
    }

    @Test("digests compare states, not the way to them")
    func digests() throws {
        let one = try applier()
        let two = try applier()
        _ = try run(one, [.user(key: "a", body: "x"), .user(key: "a", body: "y")], index: 1)
        _ = try run(two, [.user(key: "a", body: "y"), .user(key: "a", body: "x")], index: 1)
        #expect(try one.digest(region: user) == two.digest(region: user))
        _ = try run(two, [.user(key: "a", body: "y")], index: 2)
        #expect(try one.digest(region: user) != two.digest(region: user))
    }
}
