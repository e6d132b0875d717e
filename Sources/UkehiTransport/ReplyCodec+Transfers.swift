// What is told of a node's snapshot transfers, on the wire.
//
//   transfers | count u32 | transfer × count |
//   transfer  | region u64 | peer u64 | node u64, 2^64 - 1: unknown | done u64 | total u64
//             | milliseconds u64 | bytes per second u64 | direction u8 | stage u8 | 0 u16 |

import UkehiBase
import UkehiNode

extension ReplyCodec {
    private static let transferBytes = 60
    private static let noNode = UInt64.max

    static func encode(_ transfers: [SnapshotTransferInfo], into writer: inout ByteWriter) {
        writer.append(UInt32(transfers.count))
        for transfer in transfers {
            writer.append(transfer.region.rawValue)
            writer.append(transfer.peer.rawValue)
            writer.append(transfer.node?.rawValue ?? noNode)
            writer.append(transfer.doneBytes)
            writer.append(transfer.totalBytes)
            writer.append(transfer.milliseconds)
            writer.append(transfer.bytesPerSecond)
            writer.append(transfer.direction.rawValue)
            writer.append(transfer.stage.rawValue)
            writer.append(UInt16(0))
        }
    }

    static func transfers(
        _ reader: inout ByteReader
    ) throws(DecodeError) -> [SnapshotTransferInfo] {
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / transferBytes else {
            throw reader.failure("\(count) transfers claimed in \(reader.remaining) bytes")
        }
        var transfers: [SnapshotTransferInfo] = []
        transfers.reserveCapacity(count)
        for _ in 0..<count { transfers.append(try transfer(&reader)) }
        return transfers
    }

    private static func transfer(
        _ reader: inout ByteReader
    ) throws(DecodeError) -> SnapshotTransferInfo {
        let region = RegionID(try reader.read(UInt64.self))
        let peer = PeerID(try reader.read(UInt64.self))
        let node = try reader.read(UInt64.self)
        let done = try reader.read(UInt64.self)
        let total = try reader.read(UInt64.self)
        let milliseconds = try reader.read(UInt64.self)
        let rate = try reader.read(UInt64.self)
        let rawDirection = try reader.read(UInt8.self)
        let rawStage = try reader.read(UInt8.self)
        guard let direction = SnapshotTransferInfo.Direction(rawValue: rawDirection),
            let stage = SnapshotTransferInfo.Stage(rawValue: rawStage),
            try reader.read(UInt16.self) == 0
        else { throw reader.failure("unknown direction or stage of a transfer") }
        return SnapshotTransferInfo(
            region: region, direction: direction, stage: stage, peer: peer,
            node: node == noNode ? nil : NodeID(node), doneBytes: done, totalBytes: total,
            milliseconds: milliseconds, bytesPerSecond: rate)
    }
}
