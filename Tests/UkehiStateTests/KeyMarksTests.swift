// Where a region is divided by its size.

import Testing
import UkehiBase

@testable import UkehiState

@Suite("keys by the bytes below them")
struct KeyMarksTests {
    private func marks(
        _ pairs: [(Bytes, Int)], step: UInt64, most: UInt64 = .max
    ) -> KeyMarks {
        var marks = KeyMarks(step: step, most: most)
        for (key, valueBytes) in pairs {
            guard key.withUnsafeBytes({ marks.add(key: $0, valueBytes: valueBytes) }) else { break }
        }
        return marks
    }

    private func key(_ number: Int) -> Bytes {
        Bytes([UInt8(number >> 16 & 255), UInt8(number >> 8 & 255), UInt8(number & 255)])
    }

    @Test("halves by bytes, not by keys nor by how keys look")
    func halves() {
        // The last tenth of the keys has nine tenths of the bytes.
        let pairs = (0..<1000).map { (key($0), $0 < 900 ? 7 : 567) }
        let marks = marks(pairs, step: 1000)
        #expect(marks.bytes == 900 * 10 + 100 * 570)
        let cuts = marks.cuts(partBytes: 33_000)
        #expect(cuts.count == 1)
        let below = pairs.filter { $0.0 < cuts[0] }.reduce(0) { $0 + 3 + $1.1 }
        #expect(abs(below - 33_000) <= 1000)
    }

    @Test("parts of about the size that is wanted, ascending, each with pairs")
    func parts() {
        let pairs = (0..<4000).map { (key($0 * 3), 97) }
        let marks = marks(pairs, step: 12_500)
        let cuts = marks.cuts(partBytes: 100_000)
        #expect(cuts.count == 3)
        var rest = pairs[...]
        for cut in cuts {
            let part = rest.prefix { $0.0 < cut }
            #expect(abs(part.count - 1000) <= 130)
            rest = rest.dropFirst(part.count)
        }
        #expect(abs(rest.count - 1000) <= 130)
    }

    @Test("no more is looked at than is wanted; what is left is a part of its own")
    func bounded() {
        let marks = marks((0..<4000).map { (key($0), 97) }, step: 10_000, most: 200_000)
        #expect(!marks.isWhole && marks.bytes == 200_000)
        #expect(marks.cuts(partBytes: 50_000).count == 4)
    }

    @Test("one key cannot be divided; two can, however unlike they are")
    func fewKeys() {
        #expect(marks([("k", 1 << 20)], step: 1000).cuts(partBytes: 1000) == [])
        #expect(marks([], step: 1000).cuts(partBytes: 1000) == [])
        #expect(marks([("k", 1 << 20), ("l", 1)], step: 1000).cuts(partBytes: 1000) == ["l"])
        #expect(KeyMarks(estimate: 7).bytes == 7)
        #expect(KeyMarks(estimate: 7).cuts(partBytes: 1) == [])
    }

    @Test("a region is measured by what it holds; a small one is not read")
    func applier() throws {
        let store = MemoryStore()
        let applier = KeyValueApplier(store: store)
        let id = RegionID(2)
        _ = try applier.open(
            region: id, system: false, range: .all, epoch: RegionEpoch(confVersion: 1, version: 1))
        let batch = store.makeBatch()
        batch.begin()
        for number in 0..<1000 {
            let value = Bytes([UInt8](repeating: 1, count: 97))
            key(number).withUnsafeBytes { key in
                value.withUnsafeBytes { batch.put(.user, key, $0, version: 1, expiresAt: 0) }
            }
        }
        try batch.commit()
        let marks = try #require(applier.size(of: id, limit: 64_000, written: 0))
        #expect(marks.bytes == 100_000 && marks.isWhole)
        #expect(marks.cuts(partBytes: 32_000).count == 2)
        #expect(applier.size(of: RegionID(9), limit: 64_000, written: 0) == nil)
    }
}
