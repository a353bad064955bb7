// Package access gives programs their credentials for the servers of the tests.
package access

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/test/internal/objects"
)

// lifetime of a token: longer than anything runs here.
const lifetime = 30 * 24 * time.Hour

// ServiceAccount returns the configuration of a ServiceAccount, and waits if it was created only just now.
func ServiceAccount(ctx context.Context, admin *rest.Config, namespace, name string) (*rest.Config, error) {
	client, err := kubernetes.NewForConfig(admin)
	if err != nil {
		return nil, err
	}
	config := rest.AnonymousClientConfig(admin)
	err = objects.Poll(ctx, fmt.Sprintf("a token of ServiceAccount %s/%s at %s", namespace, name, admin.Host), func(ctx context.Context) (bool, error) {
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(lifetime.Seconds()))}}
		token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
		if err != nil {
			return false, err
		}
		config.BearerToken = token.Status.Token
		return true, nil
	})
	return config, err
}

// WriteKubeconfig writes the configuration of one who has a token.
func WriteKubeconfig(config *rest.Config, path string) error {
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {Token: config.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, path)
}
