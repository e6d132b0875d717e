// The sockets' options, in one place.

import NIOCore
import NIOPosix

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

enum WireChannels {
    /// A dialing socket: small frames leave at once, and a peer that vanished is noticed within
    /// seconds whether or not anything is being sent.
    ///
    /// - Parameter unansweredMilliseconds: How long what was sent may go unacknowledged before the connection counts
    ///   as broken; nil: as long as the limits say.
    static func client(
        on loop: any EventLoop, limits: WireLimits, pendingBytes: Int,
        unansweredMilliseconds: Int? = nil
    ) -> ClientBootstrap {
        ClientBootstrap(group: loop)
            .connectTimeout(limits.connectTimeout)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.tcpOption(.init(rawValue: TCP_KEEPIDLE)), value: 5)
            .channelOption(.tcpOption(.init(rawValue: TCP_KEEPINTVL)), value: 1)
            .channelOption(.tcpOption(.init(rawValue: TCP_KEEPCNT)), value: 5)
            .channelOption(
                .tcpOption(.init(rawValue: TCP_USER_TIMEOUT)),
                value: ChannelOptions.Types.SocketOption.Value(
                    unansweredMilliseconds ?? limits.unansweredMilliseconds)
            )
            .channelOption(.recvAllocator, value: receiving)
            .channelOption(.writeBufferWaterMark, value: waterMark(pendingBytes))
    }

    static func server(
        acceptor: any EventLoop, children: any EventLoopGroup, limits: WireLimits
    ) -> ServerBootstrap {
        ServerBootstrap(group: acceptor, childGroup: children)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            // Connections wait in the backlog until the node is there to judge them.
            .serverChannelOption(.autoRead, value: false)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelOption(.tcpOption(.init(rawValue: TCP_KEEPIDLE)), value: 30)
            .childChannelOption(.tcpOption(.init(rawValue: TCP_KEEPINTVL)), value: 5)
            .childChannelOption(.tcpOption(.init(rawValue: TCP_KEEPCNT)), value: 5)
            .childChannelOption(.recvAllocator, value: receiving)
            .childChannelOption(.writeBufferWaterMark, value: waterMark(limits.softPendingBytes))
    }

    /// Grows with what a connection sends; large enough that a full batch is one or two reads.
    private static let receiving = AdaptiveRecvByteBufferAllocator(
        minimum: 4 << 10, initial: 64 << 10, maximum: 1 << 20)

    private static func waterMark(_ bytes: Int) -> ChannelOptions.Types.WriteBufferWaterMark {
        .init(low: max(1, bytes / 4), high: bytes)
    }
}
