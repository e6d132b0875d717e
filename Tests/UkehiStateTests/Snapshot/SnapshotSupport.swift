// Snapshots in memory, and a second writer that knows only docs/FORMATS.md.

import UkehiBase
import UkehiEnvironment
import UkehiState

/// A pair as a test compares it.
struct Pair: Hashable, Sendable {
    var key: Bytes
    var value: Bytes
    var version: UInt64
    var expiresAt: UInt64 = 0
}

/// What a reader found.
struct Contents: Hashable {
    var header: SnapshotHeader
    var state: RegionState?
    var pairs: [Pair]
    var frames: [SnapshotFrameInfo]
}

/// The seeded generator of these tests: SplitMix64.
struct TestRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &self) }
    }
}

enum Sample {
    static let state = RegionState(
        applied: LogIndex(77), appliedTerm: Term(5), revision: 100_000,
        loggedTime: 1_700_000_000_000_000_000, epoch: RegionEpoch(confVersion: 3, version: 2))

    static func header(
        state: RegionState = Sample.state, snapshot: UInt64 = 0x0123_4567_89ab_cdef,
        range: KeyRange = KeyRange(lower: "a", upper: "n")
    ) -> SnapshotHeader {
        SnapshotHeader(
            snapshot: snapshot, cluster: ClusterID(high: 0xc1, low: 0x05), region: RegionID(7),
            range: range,
            members: [
                SnapshotMember(peer: PeerID(11), node: NodeID(1), roles: [.voter]),
                SnapshotMember(
                    peer: PeerID(12), node: NodeID(2), roles: [.voter, .outgoingVoter]),
                SnapshotMember(
                    peer: PeerID(13), node: NodeID(3), roles: [.outgoingVoter, .nextLearner]),
                SnapshotMember(peer: PeerID(15), node: NodeID(4), roles: [.learner]),
            ],
            leavesJoint: true, state: state)
    }

    /// `count` pairs whose values do not compress, so that frames keep their size.
    static func pairs(_ count: Int, valueBytes: Int = 40, seed: UInt64 = 1) -> [Pair] {
        var random = TestRandom(seed: seed)
        return (0..<count).map { number in
            let digits = String(number)
            let key = "key-" + String(repeating: "0", count: 8 - digits.count) + digits
            return Pair(
                key: Bytes(key), value: Bytes(random.bytes(valueBytes)),
                version: UInt64(number + 1), expiresAt: number % 5 == 3 ? UInt64(number) : 0)
        }
    }

    static func options(frameBytes: Int) -> SnapshotOptions {
        var options = SnapshotOptions()
        options.frameBytes = frameBytes
        return options
    }

    /// The bytes of a snapshot.
    static func snapshot(
        _ pairs: [Pair], _ header: SnapshotHeader = Sample.header(),
        state: RegionState = Sample.state, frameBytes: Int = 1 << 20
    ) throws -> [UInt8] {
        let target = MemoryFile()
        let encoder = try SnapshotEncoder(
            header, state: state, options: options(frameBytes: frameBytes)
        ) { target.bytes += $0 }
        for pair in pairs { try append(pair, to: encoder) }
        _ = try encoder.finish()
        return target.bytes
    }

    static func append(_ pair: Pair, to encoder: SnapshotEncoder) throws(SnapshotError) {
        try pair.key.withUnsafeBytes { key throws(SnapshotError) in
            try pair.value.withUnsafeBytes { value throws(SnapshotError) in
                try encoder.append(
                    StoredEntry(
                        key: key, value: value, version: pair.version, expiresAt: pair.expiresAt))
            }
        }
    }

    /// All that a snapshot holds, from frame `start` on.
    static func read(_ bytes: [UInt8], from start: UInt64 = 0) throws(SnapshotError) -> Contents {
        let reader = try SnapshotFileReader(MemoryFile(bytes))
        try reader.skip(to: start)
        var contents = Contents(header: reader.header, state: nil, pairs: [], frames: [])
        while let frame = try reader.next() {
            contents.frames.append(frame.info)
            if let state = frame.state { contents.state = state }
            frame.forEachPair {
                contents.pairs.append(
                    Pair(
                        key: Bytes(copying: $0.key), value: Bytes(copying: $0.value),
                        version: $0.version, expiresAt: $0.expiresAt))
            }
        }
        return contents
    }

    /// The error of reading it; nil if there is none.
    static func failure(_ bytes: [UInt8]) -> SnapshotError? {
        do throws(SnapshotError) {
            _ = try read(bytes)
            return nil
        } catch {
            return error
        }
    }
}

/// A snapshot in its parts, to be put together in another way.
struct RawSnapshot {
    struct Frame: Hashable {
        var header: [UInt8]
        var stored: [UInt8]
    }
    var header: [UInt8]
    var frames: [Frame]
    var footer: [UInt8]

    /// Takes a right snapshot apart.
    init(_ bytes: [UInt8]) {
        let end = Int(RawSnapshot.u32(bytes, 16))
        header = Array(bytes[..<end])
        frames = []
        var at = end
        while at + 48 < bytes.count {
            let stored = Int(RawSnapshot.u32(bytes, at + 20))
            frames.append(
                Frame(
                    header: Array(bytes[at..<at + 40]),
                    stored: Array(bytes[at + 40..<at + 40 + stored])))
            at += 40 + stored
        }
        footer = Array(bytes[at...])
    }

    var bytes: [UInt8] { header + frames.flatMap { $0.header + $0.stored } + footer }

    static func u32(_ bytes: [UInt8], _ at: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << (8 * UInt32($1)) }
    }
    static func little<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }
    static func put<T: FixedWidthInteger>(_ value: T, in bytes: inout [UInt8], at: Int) {
        bytes.replaceSubrange(at..<at + MemoryLayout<T>.size, with: little(value))
    }
    static func checksum(_ bytes: some Sequence<UInt8>, seed: UInt32 = 0) -> UInt32 {
        CRC32C.checksum(Bytes(Array(bytes)), seed: seed)
    }

    /// Makes every checksum right again, and what the footer counts too; a frame's number and sizes
    /// stay as they are.
    mutating func repair() {
        if header.count >= 16 {
            RawSnapshot.put(RawSnapshot.checksum(header[12...]), in: &header, at: 8)
        }
        let seed = RawSnapshot.u32(header, 8)
        var sums: (records: UInt64, raw: UInt64, stored: UInt64, checksum: UInt32) = (0, 0, 0, seed)
        for position in frames.indices {
            var frame = frames[position]
            let number = Array(frame.header[8..<16])
            RawSnapshot.put(
                RawSnapshot.checksum(
                    frame.stored, seed: RawSnapshot.checksum(number, seed: seed)),
                in: &frame.header, at: 32)
            let checksum = RawSnapshot.checksum(frame.header[8...], seed: seed)
            RawSnapshot.put(checksum, in: &frame.header, at: 4)
            frames[position] = frame
            sums.raw += UInt64(RawSnapshot.u32(frame.header, 16))
            sums.stored += UInt64(RawSnapshot.u32(frame.header, 20))
            sums.records += UInt64(RawSnapshot.u32(frame.header, 24))
            sums.checksum = RawSnapshot.checksum(
                RawSnapshot.little(checksum), seed: sums.checksum)
        }
        guard footer.count == 48 else { return }
        RawSnapshot.put(UInt64(frames.count), in: &footer, at: 8)
        RawSnapshot.put(sums.records, in: &footer, at: 16)
        RawSnapshot.put(sums.raw, in: &footer, at: 24)
        RawSnapshot.put(sums.stored, in: &footer, at: 32)
        RawSnapshot.put(sums.checksum, in: &footer, at: 40)
        RawSnapshot.put(RawSnapshot.checksum(footer[8...], seed: seed), in: &footer, at: 4)
    }

    /// Gives frame `position` these records, in a zstd frame of uncompressed blocks.
    mutating func setRecords(_ raw: [UInt8], count: Int, frame position: Int = 0) {
        setStored(Zstd.uncompressed(raw), rawBytes: raw.count, records: count, frame: position)
    }

    /// Gives frame `position` these stored bytes.
    mutating func setStored(
        _ stored: [UInt8], rawBytes: Int, records: Int, frame position: Int = 0
    ) {
        frames[position].stored = stored
        RawSnapshot.put(UInt32(rawBytes), in: &frames[position].header, at: 16)
        RawSnapshot.put(UInt32(stored.count), in: &frames[position].header, at: 20)
        RawSnapshot.put(UInt32(records), in: &frames[position].header, at: 24)
        repair()
    }
}

/// Records by hand.
enum RawRecord {
    static let state: [UInt8] =
        [2, 0, 0, 0] + RawSnapshot.little(UInt32(Sample.state.encodedBytes))
        + Sample.state.encoded().array

    static func pair(
        _ key: [UInt8], _ value: [UInt8] = [1], version: UInt64 = 1, expiresAt: UInt64? = nil
    ) -> [UInt8] {
        var record: [UInt8] = [1, expiresAt == nil ? 0 : 1]
        record += RawSnapshot.little(UInt16(key.count))
        record += RawSnapshot.little(UInt32(value.count))
        record += RawSnapshot.little(version)
        if let expiresAt { record += RawSnapshot.little(expiresAt) }
        return record + key + value
    }
}

/// zstd frames by hand (RFC 8878), right and wrong ones.
enum Zstd {
    static let magic: [UInt8] = [0x28, 0xb5, 0x2f, 0xfd]
    static let maxBlock = 128 << 10

    /// A single-segment frame that states `claimed` as its content's size.
    static func header(claimed: Int) -> [UInt8] {
        magic + [0xa0] + RawSnapshot.little(UInt32(claimed))
    }

    private static func block(isLast: Bool, type: UInt32, size: Int) -> [UInt8] {
        Array(RawSnapshot.little(UInt32(size) << 3 | type << 1 | (isLast ? 1 : 0))[..<3])
    }

    static func uncompressed(_ raw: [UInt8]) -> [UInt8] {
        var frame = header(claimed: raw.count)
        var at = 0
        repeat {
            let size = min(maxBlock, raw.count - at)
            frame += block(isLast: at + size == raw.count, type: 0, size: size)
            frame += raw[at..<at + size]
            at += size
        } while at < raw.count
        return frame
    }

    /// `blocks` times 128 KiB of one byte: four bytes each.
    static func bomb(_ head: [UInt8], blocks: Int) -> [UInt8] {
        head
            + (1...blocks).flatMap {
                block(isLast: $0 == blocks, type: 1, size: maxBlock) + [0]
            }
    }
}
