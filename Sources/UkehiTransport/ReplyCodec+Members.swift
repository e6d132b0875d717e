// What is told of a region's members, on the wire.
//
//   report | region u64 | confVersion u64 | version u64 | leader u64 | last index u64
//          | progress u8 | 0 u8 | 0 u16 | members u32 × member | wanted u32 × u64
//          | reason u32 + UTF-8 | steps u32 × (u32 + UTF-8) |
//   member | peer u64 | node u64 | match u64 | roles u8 | active u8 | 0 u16 |

import UkehiBase
import UkehiNode

extension ReplyCodec {
    private static let memberBytes = 28

    static func encode(_ report: MemberReport, into writer: inout ByteWriter) {
        writer.append(report.region.rawValue)
        writer.append(report.epoch.confVersion)
        writer.append(report.epoch.version)
        writer.append(report.leader.rawValue)
        writer.append(report.lastIndex.rawValue)
        writer.append(UInt32(report.progress.rawValue))
        writer.append(UInt32(report.members.count))
        for member in report.members {
            writer.append(member.peer.rawValue)
            writer.append(member.node.rawValue)
            writer.append(member.match.rawValue)
            writer.append(UInt32(member.roles.rawValue) | (member.isActive ? 0x100 : 0))
        }
        writer.append(UInt32(report.wanted.count))
        for node in report.wanted { writer.append(node.rawValue) }
        writer.appendLengthPrefixed(Bytes(report.reason))
        writer.append(UInt32(report.steps.count))
        for step in report.steps { writer.appendLengthPrefixed(Bytes(step)) }
    }

    static func members(_ reader: inout ByteReader) throws(DecodeError) -> MemberReport {
        let region = RegionID(try reader.read(UInt64.self))
        let confVersion = try reader.read(UInt64.self)
        let epoch = RegionEpoch(confVersion: confVersion, version: try reader.read(UInt64.self))
        let leader = NodeID(try reader.read(UInt64.self))
        let lastIndex = LogIndex(try reader.read(UInt64.self))
        let code = try reader.read(UInt32.self)
        guard let raw = UInt8(exactly: code), let progress = MemberReport.Progress(rawValue: raw)
        else { throw reader.failure("unknown progress \(code)") }
        var members: [MemberInfo] = []
        for _ in 0..<(try count(&reader, each: memberBytes)) { members.append(try member(&reader)) }
        var wanted: [NodeID] = []
        for _ in 0..<(try count(&reader, each: 8)) {
            wanted.append(NodeID(try reader.read(UInt64.self)))
        }
        let reason = try text(&reader)
        var steps: [String] = []
        for _ in 0..<(try count(&reader, each: 4)) { steps.append(try text(&reader)) }
        return MemberReport(
            region: region, epoch: epoch, leader: leader, lastIndex: lastIndex, members: members,
            wanted: wanted, progress: progress, reason: reason, steps: steps)
    }

    private static func member(_ reader: inout ByteReader) throws(DecodeError) -> MemberInfo {
        let peer = PeerID(try reader.read(UInt64.self))
        let node = NodeID(try reader.read(UInt64.self))
        let match = LogIndex(try reader.read(UInt64.self))
        let flags = try reader.read(UInt32.self)
        guard flags & ~0x10f == 0 else { throw reader.failure("unknown flags of a member") }
        return MemberInfo(
            peer: peer, node: node, roles: MemberInfo.Roles(rawValue: UInt8(flags & 0xf)),
            match: match, isActive: flags & 0x100 != 0)
    }

    /// A count of items that take so many bytes at least.
    private static func count(
        _ reader: inout ByteReader, each bytes: Int
    ) throws(DecodeError) -> Int {
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / bytes else {
            throw reader.failure("\(count) items claimed in \(reader.remaining) bytes")
        }
        return count
    }
}
