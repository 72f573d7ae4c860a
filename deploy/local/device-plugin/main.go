// A replacement for AMD's device plugin on a node without GPUs. It uses the kubelet's device plugin API, and gives a
// container the same devices as AMD's plugin: /dev/kfd, and /dev/dri/cardN and /dev/dri/renderDN of each GPU. All of
// them lead to /dev/null.
//
// We have read AMD's plugin, but have never run it: https://github.com/ROCm/k8s-device-plugin at commit ed76468, internal/pkg/plugin/plugin.go.
// In its container, `/device-plugin lose ID` makes it report that GPU as unhealthy until it starts again.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	gpus        = 8
	resource    = "amd.com/gpu"
	endpoint    = "amd.com_gpu"
	firstRender = 128
	// The flag -pulse of AMD's plugin says how often it checks the health of GPUs.
	pulse = time.Second
)

// id is the PCI address of a GPU. AMD's plugin uses it as the GPU's name.
func id(gpu int) string {
	return fmt.Sprintf("0000:%02x:00.0", 16*gpu+5)
}

// mark is a file that says that a GPU is lost. It disappears with the container.
func mark(id string) string {
	return filepath.Join("/", "lost-"+id)
}

type plugin struct {
	api.UnimplementedDevicePluginServer
}

func (plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// ListAndWatch reports all GPUs to the kubelet, and reports them again when one is lost.
func (plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	told := -1
	for {
		devices, lost := inventory()
		if lost != told {
			if err := stream.Send(&api.ListAndWatchResponse{Devices: devices}); err != nil {
				return err
			}
			told = lost
		}
		select {
		case <-time.After(pulse):
		case <-stream.Context().Done():
			// Like AMD's plugin: the container starts again and registers with the new kubelet.
			log.Fatal("the kubelet has gone")
		}
	}
}

// inventory returns all GPUs and how many of them are lost.
func inventory() ([]*api.Device, int) {
	devices, lost := []*api.Device{}, 0
	for gpu := range gpus {
		device := &api.Device{ID: id(gpu), Health: api.Healthy}
		if _, err := os.Stat(mark(device.ID)); err == nil {
			device.Health = api.Unhealthy
			lost++
		}
		devices = append(devices, device)
	}
	return devices, lost
}

func (plugin) Allocate(_ context.Context, asked *api.AllocateRequest) (*api.AllocateResponse, error) {
	answer := &api.AllocateResponse{}
	for _, container := range asked.ContainerRequests {
		paths := []string{"/dev/kfd"}
		for gpu := range gpus {
			for _, given := range container.DevicesIds {
				if given == id(gpu) {
					paths = append(paths, fmt.Sprintf("/dev/dri/card%d", gpu), fmt.Sprintf("/dev/dri/renderD%d", firstRender+gpu))
				}
			}
		}
		given := &api.ContainerAllocateResponse{}
		for _, path := range paths {
			given.Devices = append(given.Devices, &api.DeviceSpec{HostPath: "/dev/null", ContainerPath: path, Permissions: "rw"})
		}
		answer.ContainerResponses = append(answer.ContainerResponses, given)
	}
	return answer, nil
}

func serve() error {
	socket := filepath.Join(api.DevicePluginPath, endpoint)
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, plugin{})
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if err := register(); err != nil {
		return err
	}
	return <-failed
}

func register() error {
	connection, err := grpc.NewClient("unix://"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	request := &api.RegisterRequest{Version: api.Version, Endpoint: endpoint, ResourceName: resource}
	_, err = api.NewRegistrationClient(connection).Register(context.Background(), request)
	return err
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "lose" {
		if err := os.WriteFile(mark(os.Args[2]), nil, 0o600); err != nil {
			log.Fatal(err)
		}
		return
	}
	log.Fatal(serve())
}
