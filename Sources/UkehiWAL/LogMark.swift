// Which segments there must be: the one thing that the segments cannot say themselves.
//
//   mark      | slot 0, 4 KiB | slot 1, 4 KiB |      the valid slot with the higher sequence counts
//   slot      | "UKEHMARK" | checksum u32 | version u32 | log u64 | sequence u64
//             | oldest segment u64 | newest segment u64 |  then zeros
//
// The slots are written in turn, so that a torn write leaves the other. `newest` is raised after a
// segment's name is durable and before its first frame; `oldest` before a segment is removed. So a
// segment between them that is not there was lost, and one before `oldest` is a removal's remains.

import UkehiBase
import UkehiEnvironment

/// One state of the mark.
struct LogMark: Hashable, Sendable {
    var log: UInt64
    var sequence: UInt64 = 0
    var oldest: UInt64 = 1
    /// 0: there is no segment yet.
    var newest: UInt64 = 0
}

extension LogMark {
    static let slotBytes = FrameFormat.blockBytes
    static let recordBytes = 48
    /// "UKEHMARK" as a little-endian integer.
    static let magic: UInt64 = 0x4b52_414d_4845_4b55
    static let version: UInt32 = 1

    enum Slot: Hashable {
        case valid(LogMark)
        case newerVersion(UInt32)
        case invalid
    }

    func encode(to base: UnsafeMutableRawPointer) {
        base.initializeMemory(as: UInt8.self, repeating: 0, count: LogMark.slotBytes)
        base.put(LogMark.magic, at: 0)
        base.put(LogMark.version, at: 12)
        base.put(log, at: 16)
        base.put(sequence, at: 24)
        base.put(oldest, at: 32)
        base.put(newest, at: 40)
        let covered = UnsafeRawBufferPointer(start: base + 12, count: LogMark.recordBytes - 12)
        base.put(CRC32C.checksum(covered), at: 8)
    }

    static func decode(_ base: UnsafeRawPointer) -> Slot {
        guard base.get(UInt64.self, at: 0) == magic else { return .invalid }
        let covered = UnsafeRawBufferPointer(start: base + 12, count: recordBytes - 12)
        guard CRC32C.checksum(covered) == base.get(UInt32.self, at: 8) else { return .invalid }
        let found = base.get(UInt32.self, at: 12)
        guard found == version else { return .newerVersion(found) }
        let mark = LogMark(
            log: base.get(UInt64.self, at: 16), sequence: base.get(UInt64.self, at: 24),
            oldest: base.get(UInt64.self, at: 32), newest: base.get(UInt64.self, at: 40))
        guard mark.sequence < FrameFormat.numberLimit, mark.newest <= UInt64(UInt32.max),
            (1...(mark.newest + 1)).contains(mark.oldest)
        else { return .invalid }
        return .valid(mark)
    }

    /// Reads both slots and takes the newer valid one.
    static func read(from file: any File) throws(FileError) -> Slot {
        var best = Slot.invalid
        for slot in 0..<2 {
            var bytes = [UInt8](repeating: 0, count: recordBytes)
            let found = try readFully(file, into: &bytes, at: UInt64(slot * slotBytes))
            guard found == recordBytes else { continue }
            switch (bytes.withUnsafeBytes { $0.baseAddress.map { decode($0) } ?? .invalid }, best) {
            case (.newerVersion(let version), _): return .newerVersion(version)
            case (.valid(let mark), .valid(let other)) where other.sequence > mark.sequence: break
            case (.valid(let mark), _): best = .valid(mark)
            case (.invalid, _): break
            }
        }
        return best
    }

    /// Writes the next state durably into the slot that the current one is not in.
    mutating func advance(
        oldest: UInt64, newest: UInt64, in file: any File
    ) throws(FileError) {
        var next = self
        next.sequence += 1
        next.oldest = oldest
        next.newest = newest
        let buffer = FrameBuffer(capacity: LogMark.slotBytes)
        next.encode(to: buffer.base)
        try file.writeDurably(
            UnsafeRawBufferPointer(start: buffer.base, count: LogMark.slotBytes),
            at: (next.sequence % 2) * UInt64(LogMark.slotBytes))
        self = next
    }
}

/// Fills `bytes` from `offset` on as far as the file goes; how many bytes there were.
func readFully(
    _ file: any File, into bytes: inout [UInt8], at offset: UInt64
) throws(FileError) -> Int {
    var failure: FileError?
    let count = bytes.withUnsafeMutableBytes { buffer in
        do throws(FileError) { return try file.read(into: buffer, at: offset) } catch {
            failure = error
            return 0
        }
    }
    if let failure { throw failure }
    return count
}
