// What is told of the load on a node's regions, on the wire.
//
//   loads  | count u32 | load × count |
//   load   | region u64 | lower u32 + bytes | upper u32 + bytes
//          | reads u64 | writes u64 | bytes u64, a second, in thousandths
//          | size u64, 2^64 - 1: unknown | refusals u8 × refusal | parts u32 × part |
//   refusal | of u8: 1 load, 2 size | seconds since u64 | reason u32 + UTF-8 |
//   part   | first u32 + bytes | last u32 + bytes
//          | reads u32 | writes u32, in millionths of the region's load |

import UkehiBase
import UkehiNode

extension ReplyCodec {
    private static let smallestLoad = 53
    private static let smallestPart = 16
    private static let noSize = UInt64.max

    static func encode(_ loads: [RegionLoadInfo], into writer: inout ByteWriter) {
        writer.append(UInt32(loads.count))
        for load in loads {
            writer.append(load.region.rawValue)
            writer.appendLengthPrefixed(load.range.lower)
            writer.appendLengthPrefixed(load.range.upper)
            writer.append(thousandths(load.readsPerSecond))
            writer.append(thousandths(load.writesPerSecond))
            writer.append(thousandths(load.bytesPerSecond))
            writer.append(load.sizeBytes ?? noSize)
            writer.append(UInt8(load.refusals.count))
            for refusal in load.refusals {
                writer.append(refusal.cause.rawValue)
                writer.append(refusal.secondsAgo)
                writer.appendLengthPrefixed(Bytes(refusal.reason))
            }
            writer.append(UInt32(load.hot.count))
            for part in load.hot {
                writer.appendLengthPrefixed(part.first)
                writer.appendLengthPrefixed(part.last)
                writer.append(millionths(part.readShare))
                writer.append(millionths(part.writeShare))
            }
        }
    }

    /// Rounded down: two shares are no more than the whole.
    private static func millionths(_ share: Double) -> UInt32 {
        UInt32(min(max(share, 0), 1) * 1_000_000)
    }

    private static func thousandths(_ rate: Double) -> UInt64 {
        UInt64(exactly: (rate * 1000).rounded()) ?? 0
    }

    static func loads(_ reader: inout ByteReader) throws(DecodeError) -> [RegionLoadInfo] {
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / smallestLoad else {
            throw reader.failure("\(count) loads claimed in \(reader.remaining) bytes")
        }
        var loads: [RegionLoadInfo] = []
        loads.reserveCapacity(count)
        for _ in 0..<count { loads.append(try load(&reader)) }
        return loads
    }

    private static func load(_ reader: inout ByteReader) throws(DecodeError) -> RegionLoadInfo {
        let region = RegionID(try reader.read(UInt64.self))
        let range = try range(&reader)
        let reads = try reader.read(UInt64.self)
        let writes = try reader.read(UInt64.self)
        let bytes = try reader.read(UInt64.self)
        let size = try reader.read(UInt64.self)
        var refusals: [SplitRefusalInfo] = []
        for _ in 0..<(try reader.read(UInt8.self)) { refusals.append(try refusal(&reader)) }
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / smallestPart else {
            throw reader.failure("\(count) parts claimed in \(reader.remaining) bytes")
        }
        var hot: [HotRange] = []
        hot.reserveCapacity(count)
        for _ in 0..<count { hot.append(try part(&reader)) }
        return RegionLoadInfo(
            region: region, range: range, readsPerSecond: Double(reads) / 1000,
            writesPerSecond: Double(writes) / 1000, bytesPerSecond: Double(bytes) / 1000,
            sizeBytes: size == noSize ? nil : size, hot: hot, refusals: refusals)
    }

    private static func refusal(
        _ reader: inout ByteReader
    ) throws(DecodeError) -> SplitRefusalInfo {
        guard let cause = SplitRefusalInfo.Cause(rawValue: try reader.read(UInt8.self)) else {
            throw reader.failure("a refusal of nothing that regions are divided for")
        }
        let seconds = try reader.read(UInt64.self)
        return SplitRefusalInfo(cause: cause, reason: try text(&reader), secondsAgo: seconds)
    }

    private static func part(_ reader: inout ByteReader) throws(DecodeError) -> HotRange {
        let first = try reader.readLengthPrefixed()
        let last = try reader.readLengthPrefixed()
        let reads = try reader.read(UInt32.self)
        let writes = try reader.read(UInt32.self)
        guard first <= last, UInt64(reads) + UInt64(writes) <= 1_000_000 else {
            throw reader.failure("a part that is no part of a region's load")
        }
        return HotRange(
            first: first, last: last, readShare: Double(reads) / 1_000_000,
            writeShare: Double(writes) / 1_000_000)
    }
}
