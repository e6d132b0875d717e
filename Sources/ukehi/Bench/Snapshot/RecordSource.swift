// Records in key order, made a chunk at a time, so that making them stays out of what is measured.
//
//   key    | 16 hexadecimal digits, ascending, with gaps of random width |
//   value  | as the cluster's benchmark has them, from a pool that no frame's window reaches over |

import UkehiBase
import UkehiState

/// So many records of one size.
struct RecordSource {
    static let keyBytes = 16
    private static let chunkBytes = 1 << 20
    private static let poolBytes = 32 << 20

    let count: Int
    let valueBytes: Int
    private let values: ValueGenerator
    /// Between two keys, on average.
    private let gap: UInt64

    init(bytes: Int, valueBytes: Int) {
        self.valueBytes = valueBytes
        count = max(1, bytes / (Self.keyBytes + valueBytes))
        values = ValueGenerator(valueBytes: valueBytes, poolBytes: Self.poolBytes)
        gap = UInt64.max / UInt64(count)
    }

    /// The state of the region that has them.
    var state: RegionState {
        RegionState(
            applied: LogIndex(UInt64(count)), appliedTerm: Term(1), revision: UInt64(count),
            loggedTime: 1, epoch: RegionEpoch(confVersion: 1, version: 1))
    }

    /// One after another, `make` fills a chunk; `take` gets its pairs.
    func forEachChunk<E: Error>(_ take: ([StoredEntry]) throws(E) -> Void) throws(E) {
        let pairBytes = Self.keyBytes + valueBytes
        let perChunk = max(1, Self.chunkBytes / pairBytes)
        let room = UnsafeMutableRawBufferPointer.allocate(
            byteCount: perChunk * pairBytes, alignment: 16)
        defer { room.deallocate() }
        guard let base = room.baseAddress else { return }
        let all = UnsafeRawBufferPointer(room)
        var pairs: [StoredEntry] = []
        pairs.reserveCapacity(perChunk)
        var next = 0
        while next < count {
            pairs.removeAll(keepingCapacity: true)
            while pairs.count < perChunk, next < count {
                let start = pairs.count * pairBytes
                let number = UInt64(next)
                let key = number * gap + BenchRandom.mix(number) % gap
                ValueGenerator.writeHex(key, to: base + start)
                values.write(number, to: base + start + Self.keyBytes)
                next += 1
                pairs.append(
                    StoredEntry(
                        key: UnsafeRawBufferPointer(rebasing: all[start..<start + Self.keyBytes]),
                        value: UnsafeRawBufferPointer(
                            rebasing: all[start + Self.keyBytes..<start + pairBytes]),
                        version: number + 1, expiresAt: 0))
            }
            try take(pairs)
        }
    }
}
