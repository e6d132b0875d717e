// One region's state at one index, as bytes: sent to peers, kept as a memory state machine's durable
// snapshot, taken as a backup. Format version 1; docs/FORMATS.md describes every field.
//
//   snapshot | header | frame 0 | frame 1 | ... | footer |
//   frame    | frame header 40 B | one zstd frame with whole records |
//
// A frame's checksums go on from the header's, so that a frame of another snapshot fails them, and
// cover its number, so that none can change places. The footer counts and covers all frames: a
// snapshot that was cut, even between two frames, has none. Each frame stands for itself: who knows
// the header can go on at any frame, which is how an interrupted transfer is resumed.
//
// What a reader keeps in memory is bounded before it is made: by ``SnapshotLimits``, whatever the
// bytes claim. Golden bytes are in Tests/UkehiStateTests/Corpus/v1.

import UkehiBase

/// What no snapshot of format version 1 exceeds.
package enum SnapshotLimits {
    /// A header with the longest range and thousands of peers.
    package static let maxHeaderBytes = 64 << 10
    /// Records of a frame, before compression: the largest frame a writer may be set to, and one
    /// record of the largest kind, which is never cut in two.
    package static let maxRawBytes = maxFrameBytes + CommandLimits.maxRecordBytes
    /// The largest target size of a writer's frames.
    package static let maxFrameBytes = 8 << 20
    /// Most bytes that zstd makes of `rawBytes`: what does not compress grows by a 256th.
    package static func maxStoredBytes(of rawBytes: Int) -> Int { rawBytes + rawBytes >> 8 + 64 }
    /// The furthest back that a zstd frame may refer: what a streaming reader has to keep of it.
    package static let maxWindowBytes = UInt64(maxRawBytes)
}

enum SnapshotFormat {
    static let version: UInt32 = 1
    static let magic = Bytes("UKEHISNP")
    /// `UKSF`
    static let frameMagic: UInt32 = 0x4653_4b55
    /// `UKSE`
    static let footerMagic: UInt32 = 0x4553_4b55
    static let fixedHeaderBytes = 112
    static let frameHeaderBytes = 40
    static let footerBytes = 48

    /// What the checksum of a frame's stored bytes goes on from.
    static func seed(of frame: UInt64, header: UInt32) -> UInt32 {
        withUnsafeBytes(of: frame.littleEndian) { CRC32C.checksum($0, seed: header) }
    }
}

/// One frame as its header describes it.
package struct SnapshotFrameInfo: Hashable, Sendable {
    /// From 0.
    package var number: UInt64
    /// Where its header begins, in bytes from the start of the snapshot.
    package var offset: UInt64
    package var rawBytes: Int
    package var storedBytes: Int
    package var records: Int
    /// Of the header, and by way of that of the stored bytes.
    package var checksum: UInt32
    var storedChecksum: UInt32

    /// Where the next frame or the footer begins.
    package var end: UInt64 {
        offset + UInt64(SnapshotFormat.frameHeaderBytes + storedBytes)
    }
}

extension SnapshotFrameInfo {
    /// Writes the header's bytes and fills in its checksum.
    mutating func encode(into writer: inout ByteWriter, header: UInt32) {
        let start = writer.count
        writer.append(SnapshotFormat.frameMagic)
        writer.append(UInt32(0))
        writer.append(number)
        writer.append(UInt32(rawBytes))
        writer.append(UInt32(storedBytes))
        writer.append(UInt32(records))
        writer.append(UInt32(0))
        writer.append(storedChecksum)
        writer.append(UInt32(0))
        checksum = writer.withUnsafeBytes {
            CRC32C.checksum(UnsafeRawBufferPointer(rebasing: $0[(start + 8)...]), seed: header)
        }
        writer.overwrite(checksum, at: start + 4)
    }

    /// Reads a frame header; `number` is the one that belongs here.
    static func decode(
        _ bytes: UnsafeRawBufferPointer, number: UInt64, offset: UInt64, header: UInt32
    ) throws(SnapshotError) -> Self {
        func damaged(_ reason: String) -> SnapshotError {
            .damaged(reason, frame: number, offset: offset)
        }
        guard bytes.u32(at: 0) == SnapshotFormat.frameMagic else {
            throw damaged("no frame begins here")
        }
        let checksum = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[8...]), seed: header)
        guard bytes.u32(at: 4) == checksum else {
            throw damaged("the frame's header fails its checksum, or is of another snapshot")
        }
        guard bytes.u64(at: 8) == number else {
            throw damaged("frame \(bytes.u64(at: 8)) stands where frame \(number) belongs")
        }
        guard bytes.u32(at: 28) == 0, bytes.u32(at: 36) == 0 else {
            throw damaged("the frame has flags that format 1 does not know")
        }
        let info = SnapshotFrameInfo(
            number: number, offset: offset, rawBytes: Int(bytes.u32(at: 16)),
            storedBytes: Int(bytes.u32(at: 20)), records: Int(bytes.u32(at: 24)),
            checksum: checksum, storedChecksum: bytes.u32(at: 32))
        guard info.rawBytes > 0, info.rawBytes <= SnapshotLimits.maxRawBytes else {
            throw damaged(
                "the frame claims \(info.rawBytes) bytes of records, allowed are 1 to "
                    + "\(SnapshotLimits.maxRawBytes)")
        }
        guard info.storedBytes > 0,
            info.storedBytes <= SnapshotLimits.maxStoredBytes(of: info.rawBytes)
        else {
            throw damaged(
                "the frame claims to store \(info.rawBytes) bytes in \(info.storedBytes)")
        }
        guard info.records > 0, info.records * SnapshotRecord.minBytes <= info.rawBytes else {
            throw damaged("the frame claims \(info.records) records in \(info.rawBytes) bytes")
        }
        return info
    }
}

/// Sums over all frames, and how the end says them.
package struct SnapshotFooter: Hashable, Sendable {
    package var frames: UInt64 = 0
    package var records: UInt64 = 0
    package var rawBytes: UInt64 = 0
    /// Of the zstd frames, their headers not included.
    package var storedBytes: UInt64 = 0
    /// Over the checksums of all frame headers, in order.
    package private(set) var framesChecksum: UInt32

    /// How many of the records are keys: one is the state, which says how many are sessions.
    package func keys(besides state: RegionState?) -> UInt64 {
        records - min(records, 1 + UInt64(state?.sessions ?? 0))
    }

    /// The sums before the first frame.
    init(header: UInt32) { framesChecksum = header }

    mutating func add(_ frame: SnapshotFrameInfo) {
        frames += 1
        records += UInt64(frame.records)
        rawBytes += UInt64(frame.rawBytes)
        storedBytes += UInt64(frame.storedBytes)
        framesChecksum = withUnsafeBytes(of: frame.checksum.littleEndian) {
            CRC32C.checksum($0, seed: framesChecksum)
        }
    }

    func encoded(header: UInt32) -> Bytes {
        var writer = ByteWriter(chunkCapacity: SnapshotFormat.footerBytes)
        writer.append(SnapshotFormat.footerMagic)
        writer.append(UInt32(0))
        writer.append(frames)
        writer.append(records)
        writer.append(rawBytes)
        writer.append(storedBytes)
        writer.append(framesChecksum)
        writer.append(UInt32(0))
        let checksum = writer.withUnsafeBytes {
            CRC32C.checksum(UnsafeRawBufferPointer(rebasing: $0[8...]), seed: header)
        }
        writer.overwrite(checksum, at: 4)
        return writer.take()
    }

    /// Throws unless `bytes` say the same as these sums.
    func check(
        _ bytes: UnsafeRawBufferPointer, offset: UInt64, header: UInt32
    ) throws(SnapshotError) {
        let checksum = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[8...]), seed: header)
        guard bytes.u32(at: 4) == checksum else {
            throw .damaged(
                "the footer fails its checksum, or is of another snapshot", frame: nil,
                offset: offset)
        }
        let isRight = encoded(header: header).withUnsafeBytes { expected in
            compareBytes(expected, bytes) == 0
        }
        guard isRight else {
            throw .damaged(
                "the footer counts \(bytes.u64(at: 8)) frames with \(bytes.u64(at: 16)) records "
                    + "and \(bytes.u64(at: 24)) bytes; there are \(frames), \(records) and "
                    + "\(rawBytes)", frame: nil, offset: offset)
        }
    }
}
