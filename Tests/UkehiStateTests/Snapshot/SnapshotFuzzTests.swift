// Random changes. Without right checksums: refused, or as it was. With them: refused, or a snapshot
// that makes sense; and never a trap.

import Testing
import UkehiBase
import UkehiState

@Suite("Snapshots: fuzzed")
struct SnapshotFuzzTests {
    private static let rounds = 4000

    /// One random change of some bytes.
    private static func change(_ bytes: inout [UInt8], _ random: inout TestRandom) {
        guard !bytes.isEmpty else { return }
        let at = Int.random(in: 0..<bytes.count, using: &random)
        let count = min(Int.random(in: 1...64, using: &random), bytes.count - at)
        switch Int.random(in: 0..<7, using: &random) {
        case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes[at] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &random) ?? 0
        case 2: bytes.removeSubrange(at..<at + count)
        case 3: bytes.insert(contentsOf: bytes[at..<at + count], at: at)
        case 4: bytes.removeSubrange(at...)
        case 5: bytes.replaceSubrange(at..<at + count, with: random.bytes(count))
        default:
            for position in at..<at + count {
                bytes[position] = [0, 0xff].randomElement(using: &random) ?? 0
            }
        }
    }

    @Test("changed as they come", arguments: 1...4)
    func plain(_ seed: UInt64) throws {
        var random = TestRandom(seed: seed)
        let bytes = try Sample.snapshot(Sample.pairs(40, seed: seed), frameBytes: 700)
        let expected = try Sample.read(bytes)
        for _ in 0..<Self.rounds {
            var changed = bytes
            for _ in 0..<Int.random(in: 1...3, using: &random) { Self.change(&changed, &random) }
            guard let found = try? Sample.read(changed) else { continue }
            #expect(found == expected, "seed \(seed): other data was read")
        }
    }

    @Test("changed and made right again", arguments: 1...4)
    func repaired(_ seed: UInt64) throws {
        var random = TestRandom(seed: seed &+ 1000)
        var parts = RawSnapshot(try Sample.snapshot(Sample.pairs(40, seed: seed), frameBytes: 700))
        // The same records by hand, so that they are known.
        let pairs = Sample.pairs(40, seed: seed).map {
            RawRecord.pair(
                $0.key.array, $0.value.array, version: $0.version,
                expiresAt: $0.expiresAt == 0 ? nil : $0.expiresAt)
        }
        let frames = [[RawRecord.state] + pairs[..<10], Array(pairs[10..<25]), Array(pairs[25...])]
        parts.frames = Array(parts.frames[..<3])
        for (position, records) in frames.enumerated() {
            parts.setRecords(records.flatMap { $0 }, count: records.count, frame: position)
        }
        #expect(try Sample.read(parts.bytes).pairs == Sample.pairs(40, seed: seed))
        var accepted = 0
        var reached = 0
        for round in 0..<Self.rounds {
            var changed = parts
            let position = Int.random(in: 0..<changed.frames.count, using: &random)
            switch round % 5 {
            case 0: Self.change(&changed.header, &random)
            case 1: Self.change(&changed.frames[position].stored, &random)
            case 2:
                // Sizes follow the change, so that it is the content that is judged.
                Self.change(&changed.frames[position].stored, &random)
                RawSnapshot.put(
                    UInt32(changed.frames[position].stored.count),
                    in: &changed.frames[position].header, at: 20)
            case 3:
                let at = [8, 16, 20, 24, 28, 36].randomElement(using: &random) ?? 8
                let bit = UInt8(1) << UInt8.random(in: 0..<8, using: &random)
                changed.frames[position].header[at + Int.random(in: 0..<4, using: &random)] ^= bit
            default:
                var raw = frames[position].flatMap { $0 }
                Self.change(&raw, &random)
                changed.setRecords(raw, count: frames[position].count, frame: position)
            }
            guard changed.header.count >= 24 else { continue }
            changed.repair()
            do throws(SnapshotError) {
                let found = try Sample.read(changed.bytes)
                accepted += 1
                let range = found.header.range
                #expect(found.state != nil)
                #expect(found.pairs.allSatisfy { range.contains($0.key) })
                #expect(zip(found.pairs, found.pairs.dropFirst()).allSatisfy { $0.key < $1.key })
            } catch {
                if error.message.contains("record") || error.message.contains("key") {
                    reached += 1
                }
            }
        }
        // Otherwise the checksums were not right and nothing behind them was tried.
        #expect(accepted > 50 && reached > 50, "\(accepted) accepted, \(reached) reached records")
    }
}
